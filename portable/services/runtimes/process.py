"""The `process` runtime: servers as processes of this machine, without a container engine."""

from __future__ import annotations

import datetime as dt
import os
import shlex
import shutil
import signal
import subprocess  # nosec B404 # servers are programs
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from portable.errors import AlreadyExists, DeadlineExceeded, Unavailable
from portable.quantities import Duration
from portable.services.accounts import Account, unprivileged
from portable.services.bindings import read_entries, shown
from portable.services.home import make_folder, write_private
from portable.services.instances import Instance
from portable.services.manifest import Process, Software
from portable.services.ports import LOOPBACK, is_free
from portable.services.probing import Answer
from portable.services.runtimes import Report, State, strays
from portable.services.runtimes.supervisor import FRAGMENT, Supervisor
from portable.services.software import environment_of, fetch, locate
from portable.services.software.fetching import Fetched
from portable.services.templates import Lookup, expanded

__all__ = ["ProcessRuntime"]

_SPEC = "program.json"
_LOG = "server.log"
_STATUS = {
    "STOPPED": "stopped",
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "starting",
    "STOPPING": "stopping",
    "EXITED": "stopped",
    "FATAL": "failed",
    "UNKNOWN": "failed",
}
_PROGRAM = """\
[program:{name}]
command = "%(ENV_PORTABLE_PYTHON)s" -I -S "%(ENV_PORTABLE_LAUNCHER)s" {name}/program.json
autostart = false
autorestart = true
startsecs = 1
startretries = 5
stopsignal = {signal}
stopwaitsecs = {seconds}
killasgroup = true
redirect_stderr = true
stdout_logfile = %(here)s/../{name}/logs/server.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""


class ProcessRuntime:
    """Runs servers under one supervisor for each project; see `portable.services.runtimes.Runtime`."""

    name = "process"

    def check(self) -> None:
        """Refuse where servers would have to run as root."""
        unprivileged()

    def render(self, instance: Instance) -> dict[str, str]:
        """Give the config files, the program's spec and what the supervisor is told."""
        process = _process(instance)
        values = instance.values()
        lookup = self.lookup(instance, locating=False)
        files = {f"files/{name}": expanded(instance.service.template(name), lookup) for name in _files(instance)}
        command = [expanded(text, lookup) for text in process.command]
        environment = {name: expanded(text, lookup) for name, text in process.environment.items()}
        files[_SPEC] = msgspec.json.format(
            msgspec.json.encode({"command": command, "environment": environment}), indent=2
        ).decode()
        files[FRAGMENT] = _fragment(instance)
        parameters = instance.service.manifest.parameters
        return shown(files, {name: value for name, value in values.items() if parameters[name].sensitive})

    def prepare(self, instance: Instance, report: Report) -> None:
        """Fetch the software, write the files, and run what is left of the setup."""
        account = unprivileged()
        folder = instance.folder
        if not (folder / "volumes").exists() and (folder / "volumes.old").exists():
            (folder / "volumes.old").rename(folder / "volumes")  # a restore was interrupted between its two moves
        for part in ("volumes", "files", "logs"):
            make_folder(folder / part)
        make_private(folder / "run", account)
        for volume in instance.service.manifest.volumes:
            make_private(folder / "volumes" / volume, account)
        self._fetch(instance, report)
        lookup = self.lookup(instance)
        for name in _files(instance):
            write_private(
                folder / "files" / name, expanded(instance.service.template(name), lookup), owner=account.owner
            )
        self._set_up(instance, account, report)
        self._describe(instance, account)

    def _fetch(self, instance: Instance, report: Report) -> None:
        record = instance.record
        if record.software is not None and (
            not record.software.folder or (instance.home.packages / record.software.folder).is_dir()
        ):
            return

        def keep(fetched: Fetched) -> None:
            record.software = fetched
            instance.save()

        softwares = _process(instance).software
        if record.software is not None:
            # Data was written by this very software, so no other may take its place.
            number = record.software.number
            fetch(instance.home, [softwares[number]], report=report, keep=lambda one: keep(_numbered(one, number)))
        else:
            fetch(instance.home, softwares, report=report, keep=keep)

    def _set_up(self, instance: Instance, account: Account, report: Report) -> None:
        steps = _process(instance).setup
        lookup = self.lookup(instance)
        for number in range(instance.record.prepared, len(steps)):
            step = steps[number]
            report(f"setting up ({number + 1} of {len(steps)})")
            if step.volume is not None:
                volume = instance.folder / "volumes" / step.volume
                shutil.rmtree(volume)
                make_private(volume, account)
            answer = self.execute(
                instance,
                [expanded(text, lookup) for text in step.command],
                environment={name: expanded(text, lookup) for name, text in step.environment.items()},
                stdin=expanded(step.input or "", lookup).encode(),
                timeout=300,
            )
            (instance.folder / "logs" / f"setup-{number + 1}.log").write_text(answer.output, encoding="utf-8")
            if answer.code != 0:
                last = answer.output.strip().splitlines()[-1:] or ["without a word"]
                raise Unavailable(f"{instance.name}: setup step {number + 1} ended with {answer.code}: {last[0][:300]}")
            instance.record.prepared = number + 1
            instance.save()

    def _describe(self, instance: Instance, account: Account) -> None:
        lookup = self.lookup(instance)
        process = _process(instance)
        spec = {
            "command": [expanded(text, lookup) for text in process.command],
            "environment": self._environment(instance, process.environment),
            "folder": str(instance.folder / "run"),
            "uid": account.uid,
            "gid": account.gid,
        }
        write_private(instance.folder / _SPEC, msgspec.json.encode(spec))
        write_private(instance.folder / FRAGMENT, _fragment(instance))

    def start(self, instance: Instance) -> None:
        """Start the server, unless it runs.

        Raises:
            AlreadyExists: another program has one of its ports.
        """
        supervisor = Supervisor(instance.home)
        with instance.home.locked("supervisor"):
            supervisor.ensure()
            info = supervisor.all_info().get(instance.name, {})
            if info.get("statename") in {"RUNNING", "STARTING"}:
                return
            strays.end(list(strays.processes(instance.home.folder, instance.name)))
            for name, port in instance.record.ports.items():
                if not is_free(port):
                    raise AlreadyExists(
                        f"port {port} ({name} of {instance.name}) is taken by another program; end that one, or "
                        f"choose another with: portable services upgrade {instance.name} --port {name}=…"
                    )
            supervisor.start(instance.name)

    def stop(self, instance: Instance) -> None:
        """Stop the server, and the supervisor with the last one."""
        supervisor = Supervisor(instance.home)
        supervisor.stop(instance.name)
        with instance.home.locked("supervisor"):
            supervisor.end_if_idle()
        strays.end(list(strays.processes(instance.home.folder, instance.name)))

    def states(self, instances: Sequence[Instance]) -> list[State]:
        """Ask the supervisor once for each project."""
        known: dict[Path, dict[str, Any]] = {}
        found = []
        for instance in instances:
            folder = instance.home.folder
            if folder not in known:
                known[folder] = Supervisor(instance.home).all_info()
            info = known[folder].get(instance.name)
            if info is None:
                found.append(State("stopped"))
                continue
            moment = info["start"] if info["statename"] in {"RUNNING", "STARTING"} else info["stop"] or info["start"]
            since = dt.datetime.fromtimestamp(moment, dt.UTC) if moment else None
            found.append(State(_STATUS[info["statename"]], since, info["spawnerr"]))  # type: ignore[arg-type] # the table's values
        return found

    def lookup(self, instance: Instance, *, locating: bool = True) -> Lookup:
        """Give values as processes of this machine see them.

        Args:
            instance: the instance.
            locating: whether programs are looked for; without, their names stand for them.
        """
        software, root = _software(instance) if locating else (None, None)
        values = instance.values()
        folder = instance.folder
        commands: dict[str, str] = {}

        def parameter(name: str) -> str:
            value = values[name]
            return str(value).lower() if isinstance(value, bool) else str(value)

        def command(name: str) -> str:
            if software is not None and not commands:
                commands.update(locate(software, root))
            return commands.get(name, name)

        def binding(name: str) -> str:
            service, _, entry = name.partition("/")
            return read_entries(instance.home.bindings / service)[entry]

        scopes: dict[str, Callable[[str], str]] = {
            "parameter": parameter,
            "port": lambda name: str(instance.record.ports[name]),
            "host": lambda _: LOOPBACK,
            "address": lambda name: f"{LOOPBACK}:{instance.record.ports[name]}",
            "volume": lambda name: str(folder / "volumes" / name),
            "file": lambda name: str(folder / "files" / name),
            "service": lambda _: str(instance.copy),
            "software": lambda _: str(root / "root") if root is not None else "",
            "command": command,
            "binding": binding,
            "instance": lambda _: instance.name,
        }
        return lambda scope, name: scopes[scope](name)

    def address(self, instance: Instance, port: str) -> tuple[str, int]:
        """Give the loopback address and the port's number."""
        return LOOPBACK, instance.record.ports[port]

    def execute(
        self,
        instance: Instance,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | IO[bytes] = b"",
        stdout: IO[bytes] | None = None,
        timeout: float,
    ) -> Answer:
        """Run a program as the server's user, in the server's environment."""
        account = unprivileged()
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen[bytes](  # nosec B603 # no shell; arguments come from a checked manifest
                command,
                cwd=instance.folder / "run",
                env=self._environment(
                    instance, {**_process(instance).environment, **(environment or {}), strays.STEP_MARK: "1"}
                ),
                stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
                start_new_session=True,
                umask=0o077,
                **identity,
            )
        except OSError as error:
            raise Unavailable(f"{command[0]} cannot be run: {error.strerror}") from None
        try:
            out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout)
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{Path(command[0]).name} did not end within {timeout:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return Answer(process.returncode, ((out or b"") + (err or b"")).decode(errors="replace"))

    def _environment(self, instance: Instance, more: Mapping[str, str]) -> dict[str, str]:
        """Give the variables of the server's programs: none of the caller's, which may hold its secrets."""
        run = str(instance.folder / "run")
        software, root = _software(instance)
        variables = {"PATH": os.environ.get("PATH", os.defpath), "HOME": run, "TMPDIR": run, "LANG": "C.UTF-8"}
        own = environment_of(software, root)
        if "PATH" in own:
            own["PATH"] = f"{own['PATH']}{os.pathsep}{variables['PATH']}"
        lookup = self.lookup(instance)
        for name, text in {**software.environment, **more}.items():
            own[name] = expanded(text, lookup)
        return {
            **variables,
            **own,
            strays.MARK: str(instance.home.folder),
            strays.NAME_MARK: instance.name,
        }

    def logs(self, instance: Instance, *, lines: int, follow: bool) -> Iterator[str]:
        """Read the server's log, from before its last turning over where needed."""
        path = instance.folder / "logs" / _LOG
        # Opened once, and read from there on: nothing is lost that is written while the last lines are shown.
        file = path.open(encoding="utf-8", errors="replace") if path.is_file() else None
        try:
            yield from _last_lines(path, file, lines)
            if follow:
                yield from _following(path, file)
        finally:
            if file is not None:
                file.close()

    def save_volumes(self, instance: Instance, target: IO[bytes]) -> None:
        """Write a tar of the folder that holds the volumes."""
        with tarfile.open(fileobj=target, mode="w") as archive:
            archive.add(instance.folder / "volumes", arcname=".")

    def load_volumes(self, instance: Instance, source: IO[bytes]) -> None:
        """Unpack a tar beside the volumes, and put it in their place whole."""
        account = unprivileged()
        new, old = instance.folder / "volumes.new", instance.folder / "volumes.old"
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)
        make_folder(new)
        with tarfile.open(fileobj=source) as archive:
            archive.extractall(new, filter="data")  # nosec B202 # the filter keeps everything inside
        for path in new.rglob("*"):
            if os.geteuid() == 0:
                os.chown(path, *account.owner, follow_symlinks=False)
        (instance.folder / "volumes").rename(old)
        new.rename(instance.folder / "volumes")
        shutil.rmtree(old)

    def remove(self, instance: Instance, *, keep_data: bool) -> None:
        """End the server, and remove what is the instance's alone."""
        with instance.home.locked("supervisor"):
            (instance.folder / FRAGMENT).unlink(missing_ok=True)
            Supervisor(instance.home).forget(instance.name)
        strays.end(list(strays.processes(instance.home.folder, instance.name)))
        for part in ("files", "run", "logs", "volumes.new", "volumes.old", *(() if keep_data else ("volumes",))):
            shutil.rmtree(instance.folder / part, ignore_errors=True)
        for file in (_SPEC, strays.NOTE):
            (instance.folder / file).unlink(missing_ok=True)


def make_private(path: Path, account: Account) -> None:
    """Make a folder that is an account's alone."""
    make_folder(path, 0o700)
    if os.geteuid() == 0:
        os.chown(path, *account.owner)


def _process(instance: Instance) -> Process:
    process = instance.service.manifest.process
    if process is None:
        raise Unavailable(f"{instance.record.service} does not run on the process runtime")
    return process


def _files(instance: Instance) -> list[str]:
    return list(instance.service.manifest.files)


def _numbered(fetched: Fetched, number: int) -> Fetched:
    return msgspec.structs.replace(fetched, number=number)


def _software(instance: Instance) -> tuple[Software, Path | None]:
    fetched = instance.record.software
    if fetched is None:
        raise Unavailable(f"{instance.name} is not whole; run the installation again")
    software = _process(instance).software[fetched.number]
    return software, instance.home.packages / fetched.folder if fetched.folder else None


def _fragment(instance: Instance) -> str:
    process = _process(instance)
    seconds = max(1, round(Duration.parse(process.stop_timeout)))
    return _PROGRAM.format(name=shlex.quote(instance.name), signal=process.stop_signal, seconds=seconds)


def _last_lines(path: Path, file: IO[str] | None, count: int) -> list[str]:
    """Give the last lines of a log that is open, and of the one before it where these are too few."""
    lines = file.read().splitlines() if file is not None else []
    before = path.with_name(f"{path.name}.1")
    if (
        len(lines) < count
        and before.is_file()
        and not (file and os.path.samestat(os.fstat(file.fileno()), before.stat()))
    ):
        lines = before.read_text(encoding="utf-8", errors="replace").splitlines() + lines
    return lines[max(0, len(lines) - count) :]


def _following(path: Path, file: IO[str] | None) -> Iterator[str]:
    """Give lines as they are written, over the turning over of the log, until the caller has enough."""
    ours: IO[str] | None = None
    try:
        rest = ""
        while True:
            chunk = file.read() if file is not None else ""
            if chunk:
                *lines, rest = (rest + chunk).split("\n")
                yield from lines
            elif path.is_file() and (file is None or not os.path.samestat(os.fstat(file.fileno()), path.stat())):
                if ours is not None:
                    ours.close()
                file = ours = path.open(encoding="utf-8", errors="replace")
            else:
                time.sleep(0.1)  # a file tells nobody that it grew, without a library for that
    finally:
        if ours is not None:
            ours.close()
