"""supervisord, one for each project's services: started when a server is, ended with the last of them.

It runs apart from the shell that started it, starts servers again when they crash, and turns their logs over.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import socket
import subprocess  # nosec B404 # it is a program
import sys
import tempfile
import xmlrpc.client  # nosec B411 # speaks to our own supervisor, over a socket that only its owner can open
from pathlib import Path
from typing import Any, cast

from portable.errors import ConfigError, Unavailable
from portable.services.home import Home, make_folder, write_private
from portable.services.probing import wait_until
from portable.services.runtimes import strays

__all__ = ["FRAGMENT", "Supervisor"]

FRAGMENT = "program.conf"
"""The file in an instance's folder that tells the supervisor of its server."""

_LONGEST_SOCKET = 90
_HEAD = """\
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
pidfile = %(here)s/supervisord.pid
logfile = %(here)s/supervisord.log
logfile_maxbytes = 1MB
logfile_backups = 1
childlogdir = %(here)s
umask = 022
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
_ABSENT = {10: "it does not know the program", 70: "it is not running"}
_GONE = (OSError, http.client.HTTPException)


class Supervisor:
    """The supervisor of one project."""

    def __init__(self, home: Home) -> None:
        """Take the project's services; nothing is started yet."""
        self._home = home
        self._folder = home.supervisor
        # A socket's path has to be short, a project's need not be.
        self._short: Path | None = None
        path = self._folder / "control.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            named = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
            self._short = Path(tempfile.gettempdir(), f"portable-{os.geteuid()}-{named}")
            path = self._short / "control.sock"
        self._socket = path

    def running(self) -> bool:
        """Tell whether it runs."""
        try:
            self._call("getState")
        except _GONE:
            return False
        return True

    def ensure(self) -> None:
        """Have it run, with a program for each instance that has a fragment; hold the lock `supervisor` meanwhile.

        Raises:
            ConfigError: supervisord is not installed.
            Unavailable: it does not start.
        """
        self._write()
        if not self.running():
            self._start()
            return
        added, changed, removed = self._call("reloadConfig")[0]
        for name in [*changed, *removed]:
            self.stop(name)
            self._quietly("removeProcessGroup", name)
        for name in [*changed, *added]:
            self._call("addProcessGroup", name)

    def start(self, name: str) -> None:
        """Start a program; one that runs already is left alone."""
        self._quietly("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop a program, and wait until it is gone."""
        with contextlib.suppress(*_GONE):
            self._quietly("stopProcess", name, True)

    def all_info(self) -> dict[str, dict[str, Any]]:
        """Give what it knows of each program; empty where it does not run."""
        try:
            return {info["name"]: info for info in self._call("getAllProcessInfo")}
        except _GONE:
            return {}

    def forget(self, name: str) -> None:
        """Stop a program, and let go of it; the last one gone, end altogether. Hold the lock `supervisor`."""
        if self.running():
            self.stop(name)
            self._quietly("removeProcessGroup", name)
            self._write()
        self.end_if_idle()

    def end_if_idle(self) -> None:
        """End when no program runs or is to be started again. Hold the lock `supervisor`."""
        if not self.running():
            self._remove_short()
            return
        if all(info["statename"] in {"STOPPED", "EXITED", "FATAL", "UNKNOWN"} for info in self.all_info().values()):
            pid = self._call("getPID")
            self._call("shutdown")
            strays.wait_gone([pid], timeout=30)
            self._remove_short()

    def _remove_short(self) -> None:
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)

    def _write(self) -> None:
        make_folder(self._folder, 0o700)
        if self._short is not None:
            make_folder(self._short, 0o700)
            if self._short.stat().st_uid != os.geteuid():
                raise ConfigError(f"{self._short} belongs to another user; remove it")
        where = "%(here)s/control.sock" if self._short is None else self._socket
        parts = [_HEAD.format(socket=where, user="user = root\n" if os.geteuid() == 0 else "")]
        for name in self._home.names():
            with contextlib.suppress(FileNotFoundError):
                parts.append((self._home.folder / name / FRAGMENT).read_text(encoding="utf-8"))
        write_private(self._folder / "supervisord.conf", "\n".join(parts))

    def _start(self) -> None:
        # What an earlier supervisor left behind when it was killed would hold the ports. Steps are left alone: another
        # instance may be set up right now.
        strays.end(list(strays.processes(self._home.folder, steps=False)))
        self._socket.unlink(missing_ok=True)
        launcher = Path(__file__).with_name("launch.py")
        for path in (sys.executable, str(launcher)):
            if set(path) & set('"\\'):
                raise ConfigError(f"supervisord cannot be told of {path!r}: it holds a quotation mark or a backslash")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PORTABLE_PYTHON": sys.executable,
            "PORTABLE_LAUNCHER": str(launcher),
            strays.MARK: str(self._home.folder),
        }
        done = subprocess.run(  # noqa: S603 # nosec B603 # no shell, no argument of anybody else
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._folder / "supervisord.conf")],
            cwd=self._home.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
            if said and "No module named" in said[0]:
                raise ConfigError("the process runtime needs supervisord: pip install 'portable-cloud[services]'")
            raise Unavailable(f"supervisord does not start: {''.join(said)}; its log is {self._folder}/supervisord.log")
        wait_until(self._answers, timeout=30, alive=lambda: None)

    def _answers(self) -> None:
        try:
            self._call("getState")
        except _GONE as error:
            raise Unavailable(f"supervisord does not answer: {error}") from None

    def _quietly(self, method: str, *arguments: Any) -> None:
        """Call a method, for which what it would bring about may be so already."""
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            # BAD_NAME, NOT_RUNNING, ALREADY_STARTED, ALREADY_ADDED of supervisor's own list.
            if fault.faultCode not in {10, 60, 70, 90}:
                raise Unavailable(f"supervisord: {fault.faultString}") from None

    def _call(self, method: str, *arguments: Any) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_SocketTransport(self._socket))
        with proxy:
            return getattr(cast("Any", proxy).supervisor, method)(*arguments)


class _SocketTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Noted where the transport looks for what it closes.
        connection = _SocketConnection(self._path)
        self._connection = host, connection
        return connection


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(self.timeout)
            opened.connect(str(self._path))
        except OSError:
            opened.close()
            raise
        self.sock = opened
