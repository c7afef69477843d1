"""The services that can be installed: those of `contrib_services`, and those of further repositories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from portable.config.source import nearest
from portable.errors import ConfigError, IntegrityError, NotFound
from portable.services.reading import FILE, Service, digest, read_service

__all__ = ["Catalogue", "Repository", "built_in"]


class Repository(msgspec.Struct, frozen=True):
    """A folder of services.

    Attributes:
        name: what it is called here.
        folder: holds one folder for each service.
        sha256: the digest of each service's folder, where the repository came with an index.
    """

    name: str
    folder: Path
    sha256: Mapping[str, str] | None = None


def built_in() -> Repository:
    """Give the repository that comes with this package."""
    here = Path(__file__).resolve().parents[1]
    # An installed wheel holds it inside of the package, a checkout beside it.
    inside = here / "contrib_services"
    return Repository("contrib", inside if inside.is_dir() else here.parent / "contrib_services")


class Catalogue:
    """Every service of some repositories; where two have one of the same name, the earlier repository's counts."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        """Take the repositories, the first first."""
        self.repositories = list(repositories)

    def names(self) -> list[str]:
        """List the services' names, sorted."""
        return sorted({path.name for repository in self.repositories for path in _folders(repository)})

    def service(self, name: str) -> Service:
        """Read a service: `NAME`, or `REPOSITORY/NAME` for that of one repository.

        Raises:
            NotFound: no repository has it; the message names the nearest.
            ConfigError: its manifest is wrong.
            IntegrityError: its folder is not what the repository's index says.
        """
        wanted, slash, rest = name.partition("/")
        service_name = rest if slash else wanted
        if slash and wanted not in (known := [repository.name for repository in self.repositories]):
            raise NotFound(f"no repository {wanted!r}{nearest(wanted, known)}")
        for repository in self.repositories:
            folder = repository.folder / service_name
            if (not slash or repository.name == wanted) and service_name in {one.name for one in _folders(repository)}:
                if repository.sha256 is not None and repository.sha256.get(service_name) != digest(folder):
                    raise IntegrityError(
                        f"{service_name} in the repository {repository.name} is not what its index says: it was "
                        f"tampered with; remove the repository and add it again"
                    )
                return read_service(folder, repository=repository.name)
        raise NotFound(f"no service {name!r} in any repository{nearest(service_name, self.names())}")

    def search(self, words: Iterable[str] = ()) -> list[Service]:
        """List the services whose name, summary, categories or kinds hold every word; what is wrong is left out."""
        return [one for one in self._readable() if all(_holds(one, word.lower()) for word in words)]

    def _readable(self) -> Iterator[Service]:
        for name in self.names():
            try:
                yield self.service(name)
            except (ConfigError, IntegrityError):
                continue

    def with_dependencies(self, name: str) -> list[Service]:
        """List a service and everything that it needs, in the order to install them.

        Raises:
            ConfigError: services need each other in a circle.
        """
        ordered: dict[str, Service] = {}
        self._visit(name, [], ordered)
        return list(ordered.values())

    def _visit(self, name: str, path: list[str], ordered: dict[str, Service]) -> None:
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise ConfigError(f"services need each other in a circle: {circle}")
        service = self.service(name)
        for dependency in service.manifest.dependencies.values():
            self._visit(dependency.service, [*path, name], ordered)
        ordered[name] = service


def _folders(repository: Repository) -> list[Path]:
    if not repository.folder.is_dir():
        return []
    return [path for path in repository.folder.iterdir() if (path / FILE).is_file()]


def _holds(service: Service, word: str) -> bool:
    manifest = service.manifest
    return any(
        word in text.lower() for text in (manifest.name, manifest.summary, *manifest.categories, *manifest.provides)
    )
