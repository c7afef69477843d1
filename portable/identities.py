"""Logins by an identity of a cloud, in place of a password: a token that is made for each connection.

An adapter of a cloud adds a way by an entry point in the group `portable.identities`: its name is what `auth=` says,
its value `"module:function"` a function from `Sought` to what makes logins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from portable.errors import ConfigError, PortableError, Unauthenticated

__all__ = ["Login", "Logins", "Sought", "credentials", "logins"]

T = TypeVar("T")

_EXTRAS = {"aws-iam": "aws", "gcp-iam": "gcp", "entra": "azure"}


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Where a login is needed.

    Attributes:
        protocol: what the server speaks.
        host: the server's, as the binding names it.
        port: the server's.
        username: the one that the URL names, if it does.
        region: the cloud's region, where the binding says it.
        cache: the cache's own name, where the binding says it.
        credentials: in place of the cloud's default chain, as its adapter reads them.
    """

    protocol: Literal["postgresql", "mysql", "redis", "mssql", "kafka"]
    host: str
    port: int
    username: str | None = None
    region: str | None = None
    cache: str | None = None
    credentials: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        """Say where, and no credentials."""
        return f"<Sought {self.protocol} {self.host}:{self.port}>"


class Login(msgspec.Struct, frozen=True):
    """Who logs in, and the token that stands for a password.

    Attributes:
        username: whom the server knows.
        password: the token.
        ends: until when a connection that it opened may last, in seconds since the epoch; infinite where the server
            sets no end.
    """

    username: str
    password: str
    ends: float = math.inf

    def __repr__(self) -> str:
        """Show no token."""
        return f"<Login {self.username!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where `rich` prints, which would list every field."""
        return [("text", repr(self))]


Logins = Callable[[], Login]
"""Makes a login that is good from now on; called from any thread, for each connection."""


def credentials(sought: Sought, kind: type[T]) -> T:
    """Read the credentials of a binding as an adapter has them.

    Raises:
        ConfigError: they are others; the message holds no value.
    """

    def read(of: type, value: Any) -> Any:
        if issubclass(of, Path) and isinstance(value, str) and Path(value).is_absolute():
            return Path(value)
        raise ValueError("an absolute path is needed here")

    try:
        return msgspec.convert(sought.credentials, kind, dec_hook=read)
    except msgspec.ValidationError as error:
        raise ConfigError(f"credentials: {error}") from None


def logins(auth: str, sought: Sought) -> Logins:
    """Give what makes the logins of a server.

    Args:
        auth: by which cloud's identity, such as `aws-iam`.
        sought: where.

    Raises:
        ConfigError: nobody knows this way, or it does not fit the server or the credentials.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 (only who logs in by an identity needs it)

    points = entry_points(group="portable.identities")
    if auth not in points.names:
        install = f"; install it with: pip install 'portable-cloud[{_EXTRAS[auth]}]'" if auth in _EXTRAS else ""
        known = ", ".join(sorted({*points.names, *_EXTRAS}))
        raise ConfigError(f"nobody makes logins for this auth={install or f'; it can be {known}'}")
    try:
        make: Logins = points[auth].load()(sought)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"auth={auth} needs the package {error.name!r}; "
            f"install it with: pip install 'portable-cloud[{_EXTRAS.get(auth, auth)}]'"
        ) from error

    def login() -> Login:
        try:
            return make()
        except PortableError as error:
            error.message = f"auth={auth}: {error.message}"
            raise
        except Exception as error:  # whatever a vendor raises; its text may hold what must not be shown
            raise Unauthenticated(f"auth={auth} made no login: {type(error).__name__}") from error

    return login
