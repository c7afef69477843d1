"""The Compose file of an instance: one service called `server`, a network and volumes of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from portable.errors import Unavailable
from portable.quantities import Duration, Size
from portable.services.instances import Contained, Instance
from portable.services.manifest import Container, Image, Manifest, Port
from portable.services.ports import LOOPBACK
from portable.services.templates import Lookup, expanded

__all__ = ["LABEL", "compose_file", "image_of", "project_of", "volume_name"]

LABEL = "portable.instance"
"""The label that everything of an instance has, whose value is its project's name."""

_LARGEST_PIDS = 4096


def project_of(instance: Instance) -> str:
    """Name the Compose project of a new instance: no other project folder of this machine comes to the same."""
    place = hashlib.sha256(str(instance.home.folder).encode()).hexdigest()[:8]
    return f"portable-{place}-{instance.name}"


def volume_name(project: str, volume: str) -> str:
    """Name a volume on the engine."""
    return f"{project}-{volume}"


def image_of(manifest: Manifest) -> Image | None:
    """Give the image that the manifest names for the server."""
    return manifest.images.get("server")


def compose_file(instance: Instance, contained: Contained, lookup: Lookup) -> str:
    """Give the Compose file, as YAML; values that are secrets stand in it only where the manifest puts them there."""
    manifest = instance.service.manifest
    labels = {LABEL: contained.project}
    document = {
        "services": {"server": _server(instance, contained, lookup)},
        "networks": {"default": {"name": contained.project, "labels": labels}},
    }
    document["networks"] |= {_network_key(one): {"external": True, "name": one} for one in contained.networks}
    if manifest.volumes:
        document["volumes"] = {
            name: {"name": volume_name(contained.project, name), "labels": labels} for name in manifest.volumes
        }
    try:
        return msgspec.yaml.encode(document).decode()
    except ImportError:
        raise Unavailable("the container runtimes need PyYAML: pip install 'portable-cloud[services]'") from None


def _server(instance: Instance, contained: Contained, lookup: Lookup) -> dict[str, Any]:
    manifest = instance.service.manifest
    container = manifest.container or Container()
    image = image_of(manifest) or Image(name="server:none")
    server: dict[str, Any] = {
        "image": contained.image,
        "container_name": contained.project,
        "hostname": instance.name,
        "labels": {LABEL: contained.project},
        "restart": "unless-stopped",
    }
    if container.command is not None:
        server["command"] = [_plain(expanded(text, lookup)) for text in container.command]
    if container.environment:
        server["environment"] = {name: _plain(expanded(text, lookup)) for name, text in container.environment.items()}
    server |= _rights(image)
    server["ports"] = [
        f"{_published(instance, port)}:{instance.record.ports[name]}:{port.port}"
        for name, port in manifest.ports.items()
        if port.scope != "internal"
    ]
    server["volumes"] = [
        *(
            {"type": "volume", "source": name, "target": one.path, "volume": {"nocopy": True}}
            for name, one in manifest.volumes.items()
        ),
        *(
            {"type": "bind", "source": f"./files/{name}", "target": one.path, "read_only": True}
            for name, one in manifest.files.items()
        ),
    ]
    if contained.networks:
        server["networks"] = ["default", *map(_network_key, contained.networks)]
    server |= _limits(instance)
    if (health := _health(manifest, lookup)) is not None:
        server["healthcheck"] = health
    server["logging"] = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    return server


def _rights(image: Image) -> dict[str, Any]:
    """Take what a server does not need: root, the file system, privileges."""
    rights: dict[str, Any] = {"security_opt": ["no-new-privileges:true"]}
    if image.user is not None:
        # An image that begins as root needs some of them to become its own user.
        rights |= {"user": image.user, "cap_drop": ["ALL"]}
    if image.read_only_root:
        rights |= {"read_only": True, "tmpfs": ["/tmp"]}  # noqa: S108 # nosec B108 # in the container
    return rights


def _limits(instance: Instance) -> dict[str, Any]:
    """Limit the server to twice what its plan needs: pages of files and moments of more are counted too."""
    manifest = instance.service.manifest
    needed = Size.parse(instance.plan.memory)
    grace = manifest.process.stop_timeout if manifest.process is not None else "30s"
    return {
        "mem_limit": f"{2 * needed}b",
        "mem_reservation": f"{needed}b",
        "pids_limit": _LARGEST_PIDS,
        "stop_grace_period": f"{max(1, round(Duration.parse(grace)))}s",
    }


def _health(manifest: Manifest, lookup: Lookup) -> dict[str, Any] | None:
    """Give the check that the engine makes inside: a command, since an image need not have more than its server."""
    container = manifest.container
    command: Sequence[str] | None = container.health if container is not None else None
    if command is None:
        return None
    return {
        "test": ["CMD", *(_plain(expanded(text, lookup)) for text in command)],
        "interval": "30s",
        "timeout": "15s",
        "retries": 3,
        "start_period": f"{round(Duration.parse(manifest.probes.start_timeout))}s",
    }


def _plain(text: str) -> str:
    """Keep Compose from reading a dollar sign as a variable of its own."""
    return text.replace("$", "$$")


def _published(instance: Instance, port: Port) -> str:
    return instance.record.listen if port.scope == "any" else LOOPBACK


def _network_key(network: str) -> str:
    return network.replace(".", "-")
