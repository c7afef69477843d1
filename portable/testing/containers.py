"""Real servers for the tests of an application, each in a container that ends with the test that uses it.

The servers are the service repository's, started by testcontainers (`pip install 'portable-cloud[containers]'`)::

    @pytest.fixture(scope="session")
    def database_url() -> Iterator[str]:
        with container("postgres") as url:
            yield url

Nothing is kept: data is in memory, and goes with the container.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portable.errors import ConfigError, Unsupported
from portable.services import Services
from portable.services.bindings import outside
from portable.services.checking import check
from portable.services.health import wait_ready
from portable.services.home import Home, make_folder
from portable.services.instances import Contained, Instance
from portable.services.parameters import Value
from portable.services.planning import planned
from portable.services.ports import LOOPBACK
from portable.services.runtimes.docker import DockerRuntime, write_files
from portable.services.runtimes.docker_compose import LABEL, image_of
from portable.services.runtimes.docker_engine import engine
from portable.services.runtimes.docker_images import obtain
from portable.services.templates import Lookup, expanded
from portable.services.wishes import Wish

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

__all__ = ["container"]


@contextlib.contextmanager
def container(
    service: str,
    *,
    plan: str | None = None,
    parameters: Mapping[str, Value] | None = None,
    project: Path | str = ".",
) -> Iterator[str]:
    """Run a service in a container for as long as the block lasts, and give the URL that resources bind to.

    The image is the one that the service's manifest names, or, where no registry answers, one that is built of its
    `Dockerfile`; that one stays on the engine, for the next run. Ports are on the loopback address. testcontainers'
    own watchdog, which removes containers of test runs that were killed, is used where its image can be had.

    Args:
        service: its name in the repositories.
        plan: the plan; the manifest's first when left out.
        parameters: values of the manifest's parameters.
        project: the folder of the project whose added repositories are searched too.

    Yields:
        The URL, credentials included.

    Raises:
        ConfigError: testcontainers is not installed, or a parameter or plan is wrong.
        NotFound: there is no such service.
        PermissionDenied: this user may not use the container engine.
        Unavailable: no engine runs, no image can be had, or the server does not come up.
        Unsupported: the service needs other services.
    """
    found = Services(project).catalogue.service(service)
    check(found)
    if found.manifest.dependencies:
        raise Unsupported(
            f"{service} needs {', '.join(found.manifest.dependencies)}; install it with portable services"
        )
    driver = engine()
    driver.check()
    wish = Wish(service=found, name=found.name, on="docker", plan=plan, parameters=parameters or {})
    wish.check()
    with tempfile.TemporaryDirectory(prefix="portable-container-") as folder:
        instance = planned(Home(Path(folder)), wish)
        make_folder(instance.folder)
        name = f"portable-test-{uuid.uuid4().hex[:12]}"
        image, _ = obtain(driver, instance, lambda _: None)
        instance.record.container = Contained(engine=driver.program, project=name, image=image)
        platform = DockerRuntime()
        write_files(instance, platform.lookup(instance))
        with _described(instance, name, image, platform.lookup(instance)):
            wait_ready(platform, instance)
            yield outside(platform, instance)["uri"]


def _described(instance: Instance, name: str, image: str, lookup: Lookup) -> DockerContainer:
    """Describe a container to testcontainers, with the rights that a Compose file would give it."""
    manifest = instance.service.manifest
    described = _testcontainers()(image).with_name(name)
    if manifest.container is not None:
        if manifest.container.command is not None:
            described.with_command([expanded(text, lookup) for text in manifest.container.command])
        for variable, text in manifest.container.environment.items():
            described.with_env(variable, expanded(text, lookup))
    for key, port in manifest.ports.items():
        if port.scope != "internal":
            described.ports[f"{port.port}/tcp"] = (LOOPBACK, instance.record.ports[key])  # type: ignore[assignment] # as docker-py has it
    for key, file in manifest.files.items():
        described.with_volume_mapping(str(instance.folder / "files" / key), file.path, "ro")
    known = image_of(manifest)
    user, _, group = (known.user if known is not None and known.user is not None else "").partition(":")
    owner = f"uid={user},gid={group or user}," if user else ""
    described.tmpfs.update({volume.path: f"{owner}mode=0700" for volume in manifest.volumes.values()})
    rights: dict[str, Any] = {"hostname": instance.name, "labels": {LABEL: name}, "security_opt": ["no-new-privileges"]}
    if known is not None and known.user is not None:
        rights |= {"user": known.user, "cap_drop": ["ALL"]}
    if known is not None and known.read_only_root:
        rights["read_only"] = True
        described.tmpfs["/tmp"] = ""  # noqa: S108 # nosec B108 # in the container
    return described.with_kwargs(**rights)


def _testcontainers() -> type[DockerContainer]:
    try:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer
    except ImportError:
        raise ConfigError(
            "containers for tests need testcontainers; install it with: pip install 'portable-cloud[containers]'"
        ) from None
    if "TESTCONTAINERS_RYUK_DISABLED" not in os.environ:
        driver, watchdog = engine(), testcontainers_config.ryuk_image
        testcontainers_config.ryuk_disabled = not (
            driver.succeeds("image", "inspect", watchdog) or driver.succeeds("pull", "--quiet", watchdog)
        )
    return DockerContainer
