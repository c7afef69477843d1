"""Binding URLs: `scheme://authority/physical-name?option=…`, and the embedded `sqlite:path`, `file:path`, `memory:`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from portable.errors import ConfigError

__all__ = ["Url", "is_secret"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_SECRET_OPTION = re.compile(
    r"pass|pwd|secret|token|key$|credential|signature|sig$|sas$|^auth$|connection.?string", re.IGNORECASE
)


class Url(msgspec.Struct, frozen=True):
    """A binding URL, taken apart and percent-decoded.

    Attributes:
        scheme: in lower case; decides the driver.
        host: the authority's host, or None for the embedded forms (`sqlite:…`, `file:…`, `memory:…`).
        port: the authority's port, or None.
        username: or None.
        password: or None; never shown by `str`, `repr` or an error.
        path: what follows the authority without its leading slash; for the embedded forms the path as written.
        options: the query, each name once.
        hosts: the authority as written without user and password, for schemes that name several hosts.
        shown: what `str` and `repr` give in place of the URL's own text, where parts of it came from references.
    """

    scheme: str
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = None
    path: str = ""
    options: dict[str, str] = msgspec.field(default_factory=dict)
    hosts: str = ""
    shown: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Take a URL apart.

        Raises:
            ConfigError: it is not a URL; the message never holds its password.
        """
        if "\0" in text or "%00" in text or not _is_unicode(text):
            raise ConfigError("not a URL: it holds a NUL character or half of a surrogate pair")
        if not _is_decodable(text):
            raise ConfigError("not a URL: what it writes with % is not UTF-8")
        match = _SCHEME.fullmatch(text)
        if match is None:
            raise ConfigError("not a URL: it starts with no scheme; write it as scheme://host/name or sqlite:path")
        scheme, rest = match[1].lower(), match[2]
        rest, _, query = rest.partition("?")
        options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in options:
                raise ConfigError(f"the option {name!r} stands twice in the {scheme}: URL; keep one")
            options[name] = value
        if not rest.startswith("//"):
            return cls(scheme, path=unquote(rest), options=options)
        authority, _, path = rest[2:].partition("/")
        if ":" in authority and "@" in path + query:
            # The rest of a password may be taken for a name, and shown.
            raise ConfigError(
                f"write / ? @ : in the password, and @ anywhere else, of a {scheme}: URL as %2F %3F %40 %3A"
            )
        user, _, hosts = authority.rpartition("@")
        username, _, password = user.partition(":")
        host, port = _host_and_port(scheme, hosts)
        return cls(
            scheme,
            host=host,
            port=port,
            username=unquote(username) or None,
            password=unquote(password) or None,
            path=unquote(path),
            options=options,
            hosts=hosts,
        )

    def __str__(self) -> str:
        """Give the URL with its password and secret options as `***`."""
        if self.shown:
            return self.shown
        text = f"{self.scheme}:"
        if self.host is not None:
            user = quote(self.username, safe="") if self.username else ""
            if self.password is not None:
                user += ":***"
            text += f"//{user}@{self.hosts}" if user else f"//{self.hosts}"
            if self.path:
                text += "/"
        text += quote(self.path, safe="/:@,.~-_$*+=&()'!")
        shown = (f"{name}={'***' if is_secret(name) else value}" for name, value in self.options.items())
        return f"{text}?{'&'.join(shown)}" if self.options else text

    __repr__ = __str__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where `rich` prints, which would list every field."""
        return [("text", str(self))]


def is_secret(option: str) -> bool:
    """Tell whether an option of this name holds a secret, whose value is never shown."""
    return _SECRET_OPTION.search(option) is not None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_decodable(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _host_and_port(scheme: str, hosts: str) -> tuple[str, int | None]:
    if "," in hosts:
        return hosts, None
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", hosts)
    host, colon, port = (bracketed[1], bracketed[2], bracketed[2]) if bracketed else hosts.rpartition(":")
    if not colon:
        return host or port, None
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"the port in the {scheme}: URL is not a number of 0 to 65535")
    return host, int(port)
