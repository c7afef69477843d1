"""Certificates and signed tokens, made where they are needed."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

__all__ = ["Certificate", "SigningKey"]


class Certificate:
    """A certificate with its key: an authority's own, or one that an authority gave."""

    def __init__(self, name: str, issuer: Certificate | None = None, *, days: int = 1) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        by = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(by._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if issuer is not None:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        self.pem = builder.sign(by._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Give the key, as brokers and clients read it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class SigningKey:
    """A key that signs JSON Web Tokens.

    Args:
        pem: the key; left out, a new one.
    """

    def __init__(self, pem: str | None = None) -> None:
        known = None if pem is None else serialization.load_pem_private_key(pem.encode(), None)
        self._key = known if isinstance(known, rsa.RSAPrivateKey) else rsa.generate_private_key(65537, 2048)

    @property
    def keys(self) -> str:
        """Give the set of keys that says whom to believe."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256"}
        key |= {"n": _b64(numbers.n.to_bytes(256, "big")), "e": _b64(numbers.e.to_bytes(3, "big"))}
        return json.dumps({"keys": [key]})

    @property
    def pem(self) -> str:
        """Give the key itself."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def token(self, *, lives: float = 300.0, **claims: Any) -> str:
        """Give a signed token."""
        now = time.time()
        head = {"alg": "RS256", "kid": "one", "typ": "JWT"}
        body = {"sub": "tester", "iss": "test", "iat": int(now), "exp": int(now + lives), **claims}
        text = ".".join(_b64(json.dumps(part).encode()) for part in (head, body))
        return f"{text}.{_b64(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
