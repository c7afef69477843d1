"""Tokens for SASL/OAUTHBEARER: what gives them is the cloud's, or the application's, to bring."""

from __future__ import annotations

import base64
import binascii
import math
import subprocess  # nosec B404 (the config's own command gives the token)
import time
from typing import Protocol

import msgspec

from portable.errors import Unauthenticated
from portable.identities import Logins

__all__ = ["CommandTokens", "LoginTokens", "Token", "Tokens"]

LIFETIME = 300.0
"""Seconds that a token counts as good whose own end cannot be read."""

COMMAND_TIMEOUT = 30.0


class Token(msgspec.Struct, frozen=True):
    """A bearer token.

    Attributes:
        value: the token itself.
        expires_at: when it ends, in seconds since the epoch.
        principal: whom it names, where the server wants to be told.
        extensions: what the server wants besides, by name.
    """

    value: str
    expires_at: float
    principal: str = ""
    extensions: dict[str, str] = {}

    def __repr__(self) -> str:
        """Show no token."""
        return f"<Token until {self.expires_at:.0f}>"


class Tokens(Protocol):
    """What gives tokens; an adapter of a cloud hands one to the drivers here: `KafkaStream(binding, tokens)`."""

    def __call__(self) -> Token:
        """Give a token that is good from now on; called from threads of the client, whenever one is due."""
        ...


class LoginTokens:
    """Tokens of an identity of a cloud.

    Args:
        make: makes its logins.
    """

    def __init__(self, make: Logins) -> None:
        self._make = make

    def __call__(self) -> Token:
        """Make a login, whose password is the token.

        Raises:
            Unauthenticated: the identity has no token.
        """
        login = self._make()
        return Token(
            login.password, login.ends if math.isfinite(login.ends) else time.time() + LIFETIME, login.username
        )


class _Claims(msgspec.Struct):
    exp: float = 0.0
    sub: str = ""


class CommandTokens:
    """Tokens that a command prints.

    Args:
        command: the program and its arguments; it is run without a shell.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def __call__(self) -> Token:
        """Run the command.

        Raises:
            Unauthenticated: it failed, or printed nothing.
        """
        try:
            ran = subprocess.run(  # noqa: S603  # nosec B603 (the command is the config's own)
                self._command, capture_output=True, timeout=COMMAND_TIMEOUT, check=True, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError) as error:
            # What it printed may hold a secret.
            raise Unauthenticated(f"token_command {self._command[0]!r} failed: {type(error).__name__}") from None
        value = ran.stdout.decode(errors="replace").strip()
        if not value:
            raise Unauthenticated(f"token_command {self._command[0]!r} printed no token")
        claims = _claims(value)
        return Token(value, claims.exp or time.time() + LIFETIME, claims.sub)


def _claims(token: str) -> _Claims:
    """Read when a JSON Web Token ends and whom it names; another kind of token says nothing."""
    try:
        part = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError):
        return _Claims()
