"""The `docker` runtime: servers in containers of Docker Engine, each by a Compose file of its own."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess  # nosec B404 # engines are driven by their programs
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from portable.errors import AlreadyExists, ConfigError, DeadlineExceeded, PortableError, Unavailable
from portable.services.bindings import entries, shown
from portable.services.home import make_folder, write_private
from portable.services.instances import Contained, Instance, load
from portable.services.ports import LOOPBACK, is_free
from portable.services.probing import Answer
from portable.services.runtimes import Report, State, docker_volumes
from portable.services.runtimes.docker_compose import LABEL, compose_file, image_of, project_of
from portable.services.runtimes.docker_engine import Engine, engine
from portable.services.runtimes.docker_images import drop_built, obtain
from portable.services.templates import Lookup, expanded

__all__ = ["DockerRuntime", "write_files"]

_COMPOSE = "compose.yaml"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 # nosec B104 # inside of a container; its ports are published where it was asked
_TRIES = 3
"""How often an image is obtained that another program removes before a container has it."""

_RETRIES = 5
_SHORT = dt.timedelta(seconds=10)
_ENDED_WELL = {0, 128 + 2, 128 + 15}
_START = 300.0


class DockerRuntime:
    """Runs servers in containers; see `portable.services.runtimes.Runtime`."""

    name = "docker"

    def check(self) -> None:
        """Refuse where no engine runs, it may not be used, or it has no Compose."""
        engine().check()

    def render(self, instance: Instance) -> dict[str, str]:
        """Give the Compose file and the config files that it mounts."""
        contained = instance.record.container or Contained(engine="", project=project_of(instance))
        if not contained.image:
            image = image_of(instance.service.manifest)
            digest = f"@{image.digest}" if image is not None and image.digest is not None else ""
            name = f"{image.name}{digest}" if image is not None else f"portable/{instance.service.name}"
            contained = msgspec.structs.replace(contained, image=name)
        lookup = self.lookup(instance)
        files = {_COMPOSE: compose_file(instance, contained, lookup)}
        for name in instance.service.manifest.files:
            files[f"files/{name}"] = expanded(instance.service.template(name), lookup)
        parameters = instance.service.manifest.parameters
        return shown(files, {name: value for name, value in instance.values().items() if parameters[name].sensitive})

    def prepare(self, instance: Instance, report: Report) -> None:
        """Get the image, write the files, and make the container, its network and its volumes."""
        if instance.record.container is None:
            instance.record.container = Contained(engine=engine().program, project=project_of(instance))
        contained = _noted(instance, networks=_networks(instance))
        driver = engine(contained.engine)
        write_files(instance, self.lookup(instance))
        for left in reversed(range(_TRIES)):
            if not contained.image or not driver.succeeds("image", "inspect", contained.image):
                contained = self._obtain(driver, instance, report)
            write_private(instance.folder / _COMPOSE, compose_file(instance, contained, self.lookup(instance)))
            if contained.owned and docker_volumes.missing(driver, instance, contained):
                contained = _noted(instance, owned=False)
            if contained.owned and driver.inspect("container", [contained.project]):
                return  # what changed of it is made anew when it is started
            try:
                driver.compose(instance.folder, contained.project, "up", "--no-start", "--no-build", timeout=_START)
            except Unavailable:
                if not left or driver.succeeds("image", "inspect", contained.image):
                    raise
                continue
            if not contained.owned:
                docker_volumes.hand_over(driver, instance, contained)
                _noted(instance, owned=True)
            return

    def _obtain(self, driver: Engine, instance: Instance, report: Report) -> Contained:
        with instance.home.locked(f"image-{instance.service.name}"):
            obtained = obtain(driver, instance, report)
        return _noted(instance, image=obtained.name, built=obtained.built)

    def start(self, instance: Instance) -> None:
        """Start the server, unless it runs.

        Raises:
            AlreadyExists: another program has one of its ports.
        """
        driver, contained = _driver(instance)
        (state,) = self.states([instance])
        if state.status in {"running", "starting"}:
            return
        for name, port in instance.service.manifest.ports.items():
            number = instance.record.ports[name]
            if port.scope != "internal" and not is_free(number):
                raise AlreadyExists(
                    f"port {number} ({name} of {instance.name}) is taken by another program; end that one, or "
                    f"choose another with: portable services upgrade {instance.name} --port {name}=…"
                )
        driver.compose(instance.folder, contained.project, "up", "--detach", "--no-build", timeout=_START)

    def stop(self, instance: Instance) -> None:
        """Stop the container; it, its network and its volumes stay."""
        if instance.record.container is None:
            return
        driver, contained = _driver(instance)
        if driver.inspect("container", [contained.project]):
            driver.call("stop", contained.project, timeout=3600)

    def states(self, instances: Sequence[Instance]) -> list[State]:
        """Ask each engine once."""
        found: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        for program in {one.record.container.engine for one in instances if one.record.container is not None}:
            projects = [
                one.record.container.project
                for one in instances
                if one.record.container is not None and one.record.container.engine == program
            ]
            try:
                for container in Engine(program).inspect("container", projects):
                    found[container["Name"].lstrip("/")] = container
            except PortableError as error:
                failed[program] = error.message
        states = []
        for one in instances:
            contained = one.record.container
            if contained is None:
                states.append(State("stopped"))
            elif contained.engine in failed:
                states.append(State("failed", None, failed[contained.engine]))
            else:
                states.append(_state(found.get(contained.project)))
        return states

    def lookup(self, instance: Instance) -> Lookup:
        """Give values as the container sees them."""
        values = instance.values()
        manifest = instance.service.manifest

        def parameter(name: str) -> str:
            value = values[name]
            return str(value).lower() if isinstance(value, bool) else str(value)

        def nowhere(scope: str) -> Callable[[str], str]:
            def refuse(_: str) -> str:
                raise ConfigError(f"{manifest.name}: ${{{scope}}} is a folder of this machine, which no container has")

            return refuse

        scopes: dict[str, Callable[[str], str]] = {
            "parameter": parameter,
            "port": lambda name: str(manifest.ports[name].port),
            "host": lambda _: _EVERYWHERE,
            "address": lambda name: ":".join(map(str, self.address(instance, name))),
            "volume": lambda name: manifest.volumes[name].path,
            "file": lambda name: manifest.files[name].path,
            "command": lambda name: name,
            "service": nowhere("service"),
            "software": nowhere("software"),
            "binding": lambda name: self._needed(instance, name),
            "instance": lambda _: instance.name,
        }
        return lambda scope, name: scopes[scope](name)

    def _needed(self, instance: Instance, name: str) -> str:
        """Give an entry of a needed service's binding, as it is reached on that one's network."""
        service, _, entry = name.partition("/")
        needed = load(instance.home, service)
        contained = needed.record.container
        if contained is None:
            raise Unavailable(f"{instance.name} needs {service} in a container too; uninstall that, and install again")
        lookup = self.lookup(needed)
        inside = {"host": lambda _: contained.project}
        return entries(
            needed.service.manifest,
            lambda scope, key: inside[scope](key) if scope in inside else lookup(scope, key),
        )[entry]

    def address(self, instance: Instance, port: str) -> tuple[str, int]:
        """Give the address that a port is published on, as this machine reaches it."""
        listen = instance.record.listen
        own = listen == _EVERYWHERE or instance.service.manifest.ports[port].scope != "any"
        return LOOPBACK if own else listen, instance.record.ports[port]

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
        """Run a program of the image in the server's container."""
        driver, contained = _driver(instance)
        variables = environment or {}
        # Values reach the program from this process's environment: arguments can be read by every user.
        named = [part for name in variables for part in ("--env", name)]
        try:
            done = subprocess.run(  # noqa: S603 # nosec B603 # no shell
                [driver.program, "exec", "--interactive", *named, contained.project, *command],
                env={**os.environ, **variables},
                input=stdin if isinstance(stdin, bytes) else None,
                stdin=None if isinstance(stdin, bytes) else stdin,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{command[0].rpartition('/')[2]} did not end within {timeout:g} s") from None
        except OSError as error:
            raise Unavailable(f"{driver.program} cannot be run: {error.strerror}") from None
        return Answer(done.returncode, ((done.stdout or b"") + (done.stderr or b"")).decode(errors="replace"))

    def logs(self, instance: Instance, *, lines: int, follow: bool) -> Iterator[str]:
        """Read the container's log, which the engine turns over at 10 MB."""
        if instance.record.container is None:
            return
        driver, contained = _driver(instance)
        if not driver.inspect("container", [contained.project]):
            return
        more = ["--follow"] if follow else []
        process = subprocess.Popen(  # noqa: S603 # nosec B603 # no shell
            [driver.program, "logs", "--tail", str(lines), *more, contained.project],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                for line in process.stdout or ():
                    yield line.decode(errors="replace").rstrip("\r\n")
            finally:
                process.terminate()

    def save_volumes(self, instance: Instance, target: IO[bytes]) -> None:
        """Write a tar of the volumes, in the form that the process runtime writes too."""
        docker_volumes.save(*_driver_of(instance), target)

    def load_volumes(self, instance: Instance, source: IO[bytes]) -> None:
        """Make the volumes anew, and put what a tar holds into them."""
        driver, contained = _driver(instance)
        with tempfile.TemporaryFile() as archive:
            docker_volumes.own(instance, source, archive)
            archive.seek(0)
            _noted(instance, owned=False)
            _remove_objects(driver, contained.project, ("container", "volume"))
            driver.compose(instance.folder, contained.project, "up", "--no-start", "--no-build", timeout=_START)
            docker_volumes.load(driver, instance, contained, archive)
            _noted(instance, owned=True)

    def remove(self, instance: Instance, *, keep_data: bool) -> None:
        """Remove the container, its network, and its volumes unless they are kept; its image too, if built here."""
        if instance.record.container is not None:
            driver, contained = _driver(instance)
            self.stop(instance)
            kinds = ("container", "network") if keep_data else ("container", "network", "volume")
            _remove_objects(driver, contained.project, kinds)
            drop_built(driver, instance.service.name)
        shutil.rmtree(instance.folder / "files", ignore_errors=True)
        (instance.folder / _COMPOSE).unlink(missing_ok=True)


def _contained(instance: Instance) -> Contained:
    contained = instance.record.container
    if contained is None:
        raise Unavailable(f"{instance.name} is not whole; run the installation again")
    return contained


def _noted(instance: Instance, **changes: Any) -> Contained:
    instance.record.container = contained = msgspec.structs.replace(_contained(instance), **changes)
    instance.save()
    return contained


def _driver(instance: Instance) -> tuple[Engine, Contained]:
    contained = _contained(instance)
    return engine(contained.engine), contained


def _driver_of(instance: Instance) -> tuple[Engine, Instance, Contained]:
    driver, contained = _driver(instance)
    return driver, instance, contained


def _networks(instance: Instance) -> list[str]:
    needed = [one.service for one in instance.service.manifest.dependencies.values()]
    return [one.record.container.project for name in needed if (one := load(instance.home, name)).record.container]


def write_files(instance: Instance, lookup: Lookup) -> None:
    """Write the config files for the server alone.

    Where they cannot be given to the container's user, they are open inside of it, and on this machine the folder
    that they lie in is closed.
    """
    manifest = instance.service.manifest
    folder = instance.folder / "files"
    make_folder(folder, 0o700)
    image = image_of(manifest)
    user, _, group = (image.user if image is not None and image.user is not None else "").partition(":")
    owner = (int(user), int(group or user)) if os.geteuid() == 0 and (user + group).isdigit() else None
    for name in manifest.files:
        text = expanded(instance.service.template(name), lookup)
        write_private(folder / name, text, owner=owner, mode=0o600 if owner is not None else 0o444)


def _remove_objects(driver: Engine, project: str, kinds: Sequence[str]) -> None:
    for kind in kinds:
        listing = ["ls", "--all"] if kind == "container" else ["ls"]
        found = driver.call(kind, *listing, "--quiet", "--filter", f"label={LABEL}={project}").split()
        if found:
            options = ["--force", "--volumes"] if kind == "container" else []
            driver.call(kind, "rm", *options, *found)


def _state(container: dict[str, Any] | None) -> State:
    if container is None:
        return State("stopped")
    seen = container["State"]
    started, ended = _moment(seen.get("StartedAt")), _moment(seen.get("FinishedAt"))
    match seen["Status"]:
        case "running":
            well = (seen.get("Health") or {}).get("Status") != "unhealthy"
            return State("running", started, "" if well else "its own check fails")
        case "restarting":
            short = started is None or ended is None or ended - started < _SHORT
            ended_often = container.get("RestartCount", 0) >= _RETRIES and short
            return State("failed" if ended_often else "starting", ended, f"it ended{_why(seen)}")
        case "paused" | "created" | "removing":
            return State("stopped", started, f"the container is {seen['Status']}")
        case _:
            failed = seen.get("ExitCode", 0) not in _ENDED_WELL or seen.get("OOMKilled")
            return State("stopped", ended, f"it ended{_why(seen)}" if failed else "")


def _why(seen: Mapping[str, Any]) -> str:
    if seen.get("OOMKilled"):
        return ": it took more memory than its plan has; choose a larger one"
    return f" with {seen.get('ExitCode')}{': ' + seen['Error'] if seen.get('Error') else ''}"


def _moment(text: str | None) -> dt.datetime | None:
    if not text or text.startswith("0001-"):
        return None
    return dt.datetime.fromisoformat(text)
