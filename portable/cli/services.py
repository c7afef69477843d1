"""`portable services`: databases, caches and brokers from the service repository, installed and looked after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, assignments, command, group

if TYPE_CHECKING:
    from portable.services import Health, Services
    from portable.services.instances import Instance
    from portable.services.manifest import Manifest
    from portable.services.parameters import Parameter, Value

__all__ = ["services"]

services = group("services", "Install databases, caches and brokers, and bind resources to them with service:NAME.")

_RUNTIME_HELP = "What it runs on."


@command(services, "search", example="portable services search cache")
@click.argument("words", metavar="[WORD]...", nargs=-1)
def search(call: Call, words: tuple[str, ...]) -> None:
    """List the services that can be installed: all, or those that every word fits."""
    found = [one.manifest for one in _services(call).catalogue.search(words)]
    structure = [_summary(one) for one in found]
    rows = [(one.name, one.version, ", ".join(one.provides) or "-", one.summary) for one in found]
    call.show_table(("service", "version", "provides", "summary"), rows, structure)


@command(services, "show", example="portable services show postgres")
@click.argument("service")
def show(call: Call, service: str) -> None:
    """Show a service's plans, parameters and ports."""
    manifest = _services(call).catalogue.service(service).manifest
    if call.as_json:
        import msgspec

        call.show(msgspec.to_builtins(manifest))
        return
    click.echo(f"{manifest.name} {manifest.version} (revision {manifest.revision}, {manifest.license})")
    click.echo(f"{manifest.summary}\n{manifest.homepage}\n")
    plans = [(name, one.memory, one.storage, str(one.replicas), one.summary) for name, one in manifest.plans.items()]
    call.show_table(("plan", "memory", "storage", "replicas", "for"), plans, None)
    if manifest.parameters:
        click.echo()
        rows = [(name, one.type, _default(one), one.description) for name, one in manifest.parameters.items()]
        call.show_table(("parameter", "type", "default", "what it does"), rows, None)
    click.echo()
    ports = [(name, str(one.port), one.summary or "") for name, one in manifest.ports.items()]
    call.show_table(("port", "by custom", "what is spoken"), ports, None)


@command(services, "install", example="portable services install postgres --as orders-db --set max-connections=50")
@click.argument("service", required=False)
@click.option("--as", "name", help="The instance's name.  [default: the service's]")
@click.option("--runtime", "on", default="process", show_default=True, help=_RUNTIME_HELP)
@click.option("--plan", help="How large it is.  [default: the manifest's first]")
@assignments("--set", "given", help="A parameter; @FILE as the value reads it from a file, - from stdin.")
@assignments("--port", "ports", help="A port's number.  [default: a free one]")
@click.option("--listen", metavar="ADDRESS", help="The address that its ports are on.  [default: 127.0.0.1]")
@click.option("--ask", is_flag=True, help="Ask for each parameter on the terminal.")
def install(
    call: Call,
    service: str | None,
    name: str | None,
    on: str,
    plan: str | None,
    given: dict[str, str],
    ports: dict[str, str],
    listen: str | None,
    ask: bool,
) -> None:
    """Install a service, wait until it does its work, and print its binding. Again it does nothing.

    Without SERVICE, install every service that the profile binds a resource to with service:NAME.
    """
    engine = _services(call)
    if service is None:
        if name or plan or given or ports or ask:
            raise click.UsageError("name the SERVICE that --as, --plan, --set, --port and --ask are for")
        _install_bound(call, engine, on)
        return
    manifest = engine.catalogue.service(service).manifest
    parameters = _parameters(manifest, given)
    if ask:
        _ask(manifest, parameters)
    with _reporting(call) as report:
        instance = engine.install(
            service,
            name=name,
            on=on,
            plan=plan,
            parameters=parameters,
            ports=_numbers(ports),
            listen=listen,
            report=report,
        )
    _show_binding(call, engine, instance.name, secrets=False)
    call.show_text(f"\nbind a resource to it in portable.toml with: service:{instance.name}")


def _install_bound(call: Call, engine: Services, on: str) -> None:
    """Install what the profile in force binds; what is an instance by another name has to be there."""
    from portable.services.instances import stored

    started: list[Instance] = []
    with _reporting(call) as report:
        for name in call.loaded().profile(call.profile).services():
            found = stored(engine.home, name)
            if found is not None and found.record.stage == "installed":
                started += engine.up([name], report=report)
            else:
                started.append(engine.install(name, on=on, report=report))
    _show_done(call, "up", started)


@command(services, "up", example="portable services up")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def up(call: Call, names: tuple[str, ...]) -> None:
    """Start what is installed, all or those named, and wait until it does its work."""
    with _reporting(call) as report:
        started = _services(call).up(names, report=report)
    _show_done(call, "up", started)


@command(services, "down", example="portable services down valkey")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def down(call: Call, names: tuple[str, ...]) -> None:
    """Stop what is installed, all or those named; data stays."""
    with _reporting(call) as report:
        stopped = _services(call).down(names, report=report)
    _show_done(call, "down", stopped)


@command(services, "status", example="portable services status --json")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--timeout", type=float, default=0.2, show_default=True, help="Seconds that each may take to answer.")
def status(call: Call, names: tuple[str, ...], timeout: float) -> None:
    """Show how each installed service is. Exits with 1 when one of those that run is not well."""
    found = _services(call).status(names, timeout=timeout)
    if call.as_json:
        call.show(found)
    elif not found:
        click.echo("nothing is installed; `portable services search` lists what can be")
    else:
        headers = ("name", "service", "version", "plan", "runtime", "status", "health", "since", "endpoints")
        call.show_table(headers, [_row(one) for one in found], None)
        for one in found:
            if one.detail:
                click.echo(f"{one.name}: {one.detail}")
    if any(one.healthy is False or one.status in {"failed", "incomplete"} for one in found):
        from portable.cli.failures import FAILED

        raise click.exceptions.Exit(FAILED)


@command(services, "binding", example="portable services binding postgres --show-secrets")
@click.argument("name")
@click.option("--show-secrets", is_flag=True, help="Show what is else ***.")
def binding(call: Call, name: str, show_secrets: bool) -> None:
    """Print what an application is told of an installed service."""
    _show_binding(call, _services(call), name, secrets=show_secrets)


@command(services, "logs", example="portable services logs valkey --follow")
@click.argument("name")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
def logs(call: Call, name: str, lines: int, follow: bool) -> None:
    """Print what a server wrote."""
    for line in _services(call).logs(name, lines=lines, follow=follow):
        call.show({"line": line}, line)


@command(services, "uninstall", example="portable services uninstall valkey")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is installed.")
@click.option("--keep-data", is_flag=True, help="Leave its volumes and secrets, for an installation of the same name.")
def uninstall(call: Call, names: tuple[str, ...], everything: bool, keep_data: bool) -> None:
    """Remove an installed service: its processes, files, data and binding. Nothing is left behind."""
    engine = _services(call)
    if bool(names) is everything:
        raise click.UsageError("name what to uninstall, or give --all")
    for name in engine.home.names() if everything else names:
        with _reporting(call) as report:
            engine.uninstall(name, keep_data=keep_data, report=report)
        call.show({"uninstalled": name}, f"uninstalled {name}" + ("; its data is kept" if keep_data else ""))


@command(services, "upgrade", example="portable services upgrade valkey --set fsync=always")
@click.argument("name")
@click.option("--plan", help="Another plan.")
@assignments("--set", "given", help="A parameter to change; @FILE as the value reads it from a file, - from stdin.")
@assignments("--port", "ports", help="Another number for a port.")
def upgrade(call: Call, name: str, plan: str | None, given: dict[str, str], ports: dict[str, str]) -> None:
    """Have an installed service run what the repository has now, or with other parameters; its data stays."""
    from portable.services.instances import load

    engine = _services(call)
    manifest = engine.catalogue.service(load(engine.home, name).record.service).manifest
    with _reporting(call) as report:
        done = engine.upgrade(
            name, parameters=_parameters(manifest, given), plan=plan, ports=_numbers(ports), report=report
        )
    record = done.record
    call.show(
        {"name": name, "service": record.service, "version": record.version, "revision": record.revision},
        f"{name} runs {record.service} {record.version} (revision {record.revision})",
    )


@command(services, "backup", example="portable services backup postgres orders.backup")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def backup(call: Call, name: str, file: Path) -> None:
    """Write a service's data into a file; services without a command for it are down meanwhile."""
    with _reporting(call) as report:
        made = _services(call).backup(name, file, report=report)
    call.show(made, f"wrote {file}: {made.service} {made.version}, {made.size} bytes before compression")


@command(services, "restore", example="portable services restore postgres orders.backup")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore(call: Call, name: str, file: Path) -> None:
    """Put a backup's data into a service that was newly installed."""
    with _reporting(call) as report:
        found = _services(call).restore(name, file, report=report)
    call.show(found, f"restored {name} from {file}, made {found.made_at:%Y-%m-%d %H:%M} of {found.instance}")


@command(services, "render", example="portable services render valkey")
@click.argument("name")
@click.option("--runtime", "on", help=f"{_RUNTIME_HELP}  [default: the instance's, or process]")
@click.option("--plan", help="How large it is.  [default: the manifest's first]")
@assignments("--set", "given", help="A parameter; @FILE as the value reads it from a file, - from stdin.")
def render(call: Call, name: str, on: str | None, plan: str | None, given: dict[str, str]) -> None:
    """Print what is applied for an installed service, or would be for another: files, with secrets as ***."""
    engine = _services(call)
    parameters = _parameters(engine.catalogue.service(name).manifest, given) if given else {}
    files = engine.render(name, on=on, plan=plan, parameters=parameters)
    if call.as_json:
        call.show(files)
        return
    for file, text in files.items():
        click.echo(f"# {file}\n{text.rstrip()}\n")


@command(services, "validate", example="portable services validate contrib_services/valkey")
@click.argument("paths", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
def validate(call: Call, paths: tuple[Path, ...]) -> None:
    """Check services: the folders given, or every service of every repository. Exits with 3 on an error."""
    from portable.services.checking import Finding, findings
    from portable.services.reading import read_service

    catalogue = _services(call).catalogue
    if not paths:
        paths = tuple(one.folder / name for one in catalogue.repositories for name in _names(one.folder))
    found: list[tuple[Path, Finding]] = []
    from portable.errors import ConfigError

    for path in paths:
        try:
            found += [(path, finding) for finding in findings(read_service(path))]
            if path.parent in {one.folder for one in catalogue.repositories}:
                catalogue.with_dependencies(path.name)
        except ConfigError as error:
            where, _, message = error.message.partition(": ")
            found.append((path, Finding("error", where, message) if message else Finding("error", str(path), where)))
    call.show([{"service": path.name, **finding._asdict()} for path, finding in found])
    for _, finding in found:
        call.show_text(f"{finding.severity}: {finding.where}: {finding.message}")
    call.show_text(
        f"{len(paths)} checked: {sum(one.severity == 'error' for _, one in found)} errors, "
        f"{sum(one.severity == 'warning' for _, one in found)} warnings"
    )
    if any(finding.severity == "error" for _, finding in found):
        from portable.cli.failures import CONFIG

        raise click.exceptions.Exit(CONFIG)


@command(services, "mirror", example="portable services mirror /srv/services")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def mirror(call: Call, folder: Path) -> None:
    """Write every service of every repository into a folder that `repo add` takes: a copy for where no network is."""
    from portable.services.repositories import publish

    catalogue = _services(call).catalogue
    index = publish([catalogue.service(name) for name in catalogue.names()], folder)
    call.show(index, f"wrote {len(index.services)} services into {folder}")


repo = group("repo", "Add and remove further repositories of services.")
services.add_command(repo)


@command(repo, "add", example="portable services repo add acme https://services.acme.example")
@click.argument("name")
@click.argument("source", metavar="FOLDER-OR-URL")
def repo_add(call: Call, name: str, source: str) -> None:
    """Add a repository, or read it anew; every service is checked against the index."""
    from portable.services.repositories import add

    plain = source if "://" in source else str(Path(source).absolute())
    with _reporting(call) as report:
        report(f"reading {source}")
        found = add(_services(call).home, name, plain)
    call.show(found, f"{name} has {', '.join(one.name for one in found.services) or 'no services'}")


@command(repo, "list", example="portable services repo list")
def repo_list(call: Call) -> None:
    """List the repositories that were added."""
    from portable.services.repositories import added

    found = added(_services(call).home)
    rows = [(one.name, str(len(one.services)), one.source) for one in found]
    if found or call.as_json:
        call.show_table(("repository", "services", "source"), rows, found)
    else:
        click.echo("no repository was added; the built-in one is called contrib")


@command(repo, "remove", example="portable services repo remove acme")
@click.argument("name")
def repo_remove(call: Call, name: str) -> None:
    """Remove a repository; what was installed from it stays."""
    from portable.services.repositories import remove

    remove(_services(call).home, name)
    call.show({"removed": name}, f"removed {name}")


@command(repo, "index", example="portable services repo index ./our-services /srv/www/services")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
def repo_index(call: Call, source: Path, target: Path) -> None:
    """Write a folder of services as a repository, with an index of checksums, for others to add."""
    from portable.services.catalogue import Catalogue, Repository
    from portable.services.repositories import publish

    catalogue = Catalogue([Repository(source.name, source)])
    index = publish([catalogue.service(name) for name in catalogue.names()], target)
    call.show(index, f"wrote {len(index.services)} services into {target}")


@command(services, "schema", example="portable services schema > service.schema.json")
def schema(_: Call) -> None:
    """Print the JSON Schema of service.toml, for editors."""
    from portable.cli.output import to_json
    from portable.services.manifest import schema as made

    click.echo(to_json(made()))


def _services(call: Call) -> Services:
    from portable.config import Config
    from portable.services import Services

    return Services(Config.project(call.config))


def _names(folder: Path) -> Iterable[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _summary(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "revision": manifest.revision,
        "provides": list(manifest.provides),
        "categories": manifest.categories,
        "summary": manifest.summary,
    }


def _default(parameter: Parameter) -> str:
    if parameter.generated is not None:
        return "(made)"
    return "(required)" if parameter.default is None else str(parameter.default)


def _parameters(manifest: Manifest, given: dict[str, str]) -> dict[str, Value]:
    """Read the values of --set; a secret can come from a file or stdin, so that no process list shows it."""
    from portable.config.source import nearest
    from portable.errors import ConfigError
    from portable.services.parameters import read_value

    values: dict[str, Value] = {}
    for name, written in given.items():
        if name not in manifest.parameters:
            raise ConfigError(f"{manifest.name} has no parameter {name!r}{nearest(name, manifest.parameters)}")
        text = written
        if written == "-":
            text = sys.stdin.read().rstrip("\r\n")
        elif written.startswith("@"):
            text = Path(written[1:]).read_text(encoding="utf-8").rstrip("\r\n")
        values[name] = read_value(name, manifest.parameters[name], text)
    return values


def _ask(manifest: Manifest, values: dict[str, Value]) -> None:
    """Ask for what was not given; an empty answer takes the default, or has it made."""
    from portable.services.parameters import read_value

    for name, parameter in manifest.parameters.items():
        if name in values:
            continue
        optional = parameter.default is not None or parameter.generated is not None
        text = click.prompt(
            f"{name} ({parameter.description}) [{_default(parameter)}]",
            default="" if optional else None,
            hide_input=parameter.sensitive,
            show_default=False,
            err=True,
        )
        if text:
            values[name] = read_value(name, parameter, text)


def _numbers(ports: dict[str, str]) -> dict[str, int]:
    for port, text in ports.items():
        if not text.isascii() or not text.isdigit():
            raise click.BadParameter(f"{text!r} is no number of a port", param_hint=f"--port {port}")
    return {port: int(text) for port, text in ports.items()}


def _reporting(call: Call) -> _Reporter:
    return _Reporter(quiet=call.as_json)


class _Reporter:
    """Says on stderr what goes on, once that takes over a second."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._working: Any = None

    def __enter__(self) -> Callable[[str], None]:
        return self._report

    def _report(self, what: str) -> None:
        from portable.cli.output import working

        self.__exit__()
        if not self._quiet:
            self._working = working(what)
            self._working.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._working is not None:
            self._working.__exit__(None, None, None)
            self._working = None


def _show_binding(call: Call, engine: Services, name: str, *, secrets: bool) -> None:
    found = engine.binding(name, secrets=secrets)
    call.show({"name": name, "binding": found})
    width = max(map(len, found), default=0)
    for entry, value in found.items():
        call.show_text(f"{entry:<{width}}  {value}")


def _show_done(call: Call, what: str, instances: list[Instance]) -> None:
    call.show([{"name": one.name, "service": one.record.service} for one in instances])
    for one in instances:
        call.show_text(f"{one.name} is {what}")
    if not instances:
        call.show_text("nothing is installed")


def _row(health: Health) -> tuple[str, ...]:
    since = health.since.astimezone().isoformat(" ", "seconds")[:19] if health.since else "-"
    well = {True: "well", False: "not well", None: "-"}[health.healthy]
    endpoints = ", ".join(health.endpoints.values())
    return (
        health.name,
        health.service,
        health.version,
        health.plan,
        health.runtime,
        health.status,
        well,
        since,
        endpoints,
    )
