"""Services of Google's and Microsoft's that no registry has an emulator of, speaking the documented protocol by TLS.

Here are Entra ID's token endpoint, Key Vault's secrets, Google's token endpoint and Secret Manager. The clients that
speak to them are the vendors' own. Credentials are checked as the vendors say: Entra's by client secret, Google's by
the signature of the service account's key. What is not documented is not here.

- learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
- learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
- developers.google.com/identity/protocols/oauth2/service-account
- cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import ipaddress
import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

__all__ = ["CLIENT", "CLIENT_SECRET", "OBJECT", "TENANT", "VendorServices", "vendor_services"]

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
CLIENT_SECRET = "5ecret-of-the-application"  # noqa: S105 (what the test knows)
OBJECT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
ACCOUNT = "app@acme-prod.iam.gserviceaccount.com"

Answer = tuple[int, dict[str, Any], dict[str, str]]


class VendorServices:
    """What the servers know, and what they were asked.

    Attributes:
        secrets: by path (`/secrets/db`, `/v1/projects/acme/secrets/db`): the versions of a secret, the newest last.
        client_secret: what Entra takes.
        lasts: seconds that a token lasts.
        tokens: every token that was given, by scope.
        asked: the paths of every request for a secret.
        refusal: a status with which secrets are refused, instead of given.
        damaged: whether what Secret Manager gives is not what its checksum says.
        is_emulator: whether it speaks in clear and asks for no credentials, as emulators do.
    """

    def __init__(self, folder: Path, *, is_emulator: bool = False) -> None:
        self.is_emulator = is_emulator
        self.secrets: dict[str, list[str]] = {}
        self.client_secret = CLIENT_SECRET
        self.lasts = 3600
        self.tokens: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.refusal: int | None = None
        self.damaged = False
        self.certificate = folder / "ca.pem"
        self.key_file = folder / "service-account.json"
        self.port = 0
        self._folder = folder
        self._numbers = itertools.count(1)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._signs = ec.generate_private_key(ec.SECP256R1())

    @property
    def url(self) -> str:
        return f"http{'' if self.is_emulator else 's'}://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve as long as the block lasts."""
        services = self

        class Handler(_Handler):
            vendor = services

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if not self.is_emulator:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_certified(self._folder))
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        self.key_file.write_text(json.dumps(self._account()))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, path: str, headers: Any, body: str) -> Answer:
        """Answer a request."""
        place = urlsplit(path).path
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if method == "GET" and place.endswith("/.well-known/openid-configuration"):
            return 200, self._openid(), {}
        if method == "POST" and place == f"/{TENANT}/oauth2/v2.0/token":
            return self._entra(form)
        if method == "POST" and place == "/token":
            return self._google(form)
        if method == "GET" and place.startswith("/secrets/"):
            return self._key_vault(place, headers.get("Authorization", ""))
        if method == "GET" and place.startswith("/v1/projects/"):
            return self._secret_manager(place, headers.get("Authorization", ""))
        return 404, {"error": {"code": 404, "message": "no such path", "status": "NOT_FOUND"}}, {}

    def _openid(self) -> dict[str, Any]:
        base = f"{self.url}/{TENANT}"
        return {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
        }

    def _entra(self, form: dict[str, str]) -> Answer:
        if form.get("client_id") != CLIENT or form.get("client_secret") != self.client_secret:
            said = "AADSTS7000215: Invalid client secret provided."
            return 401, {"error": "invalid_client", "error_description": said, "error_codes": [7000215]}, {}
        return 200, self._given(form["scope"]), {}

    def _google(self, form: dict[str, str]) -> Answer:
        try:
            claims = jwt.decode(
                form["assertion"], self._key.public_key(), algorithms=["RS256"], audience=GOOGLE_AUDIENCE
            )
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, {}
        return 200, self._given(claims["scope"]), {}

    def _given(self, scope: str) -> dict[str, Any]:
        number, ends = next(self._numbers), int(time.time()) + self.lasts
        token = jwt.encode({"oid": OBJECT, "exp": ends, "jti": str(number)}, self._signs, algorithm="ES256")
        self.tokens.append((scope, token))
        return {"token_type": "Bearer", "expires_in": self.lasts, "access_token": token}

    def _key_vault(self, place: str, authorization: str) -> Answer:
        if authorization.removeprefix("Bearer ") not in {token for _, token in self.tokens}:
            # The vendor's client wants the resource to be a domain above the vault's: of 127.0.0.1 this is one.
            said = f'Bearer authorization="{self.url}/{TENANT}", resource="https://0.0.1:{self.port}"'
            return 401, {"error": {"code": "Unauthorized"}}, {"WWW-Authenticate": said}
        self.asked.append(place)
        if self.refusal is not None:
            return self.refusal, {"error": {"code": "Forbidden", "message": "no permission"}}, {}
        _, _, name, *version = place.rstrip("/").split("/")
        known = self.secrets.get(f"/secrets/{name}", [])
        which = _which(known, version[0] if version and version[0] else "latest")
        if which is None:
            return 404, {"error": {"code": "SecretNotFound", "message": "not found"}}, {}
        return (
            200,
            {"value": known[which], "id": f"{self.url}/secrets/{name}/{which + 1}", "attributes": {"enabled": True}},
            {},
        )

    def _secret_manager(self, place: str, authorization: str) -> Answer:
        if not self._is_google(authorization.removeprefix("Bearer ")):
            return 401, {"error": {"code": 401, "message": "no valid credentials", "status": "UNAUTHENTICATED"}}, {}
        self.asked.append(place)
        if self.refusal is not None:
            return (
                self.refusal,
                {"error": {"code": self.refusal, "message": "refused", "status": "PERMISSION_DENIED"}},
                {},
            )
        name, _, version = place.removesuffix(":access").partition("/versions/")
        known = self.secrets.get(name, [])
        which = _which(known, version)
        if which is None:
            return 404, {"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}, {}
        data = known[which].encode()
        payload = {
            "data": base64.b64encode(data).decode(),
            "dataCrc32c": str(google_crc32c.value(data) ^ self.damaged),
        }
        return 200, {"name": f"{name}/versions/{which + 1}", "payload": payload}, {}

    def _is_google(self, token: str) -> bool:
        """Whether it is a token that was given, or one that the account's key signed itself."""
        if self.is_emulator or token in {given for _, given in self.tokens}:
            return True
        try:
            options: Any = {"verify_aud": False}
            return bool(
                jwt.decode(token, self._key.public_key(), algorithms=["RS256"], options=options)["iss"] == ACCOUNT
            )
        except jwt.InvalidTokenError:
            return False

    def _account(self) -> dict[str, str]:
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return {
            "type": "service_account",
            "project_id": "acme-prod",
            "private_key_id": "1",
            "private_key": self._key.private_bytes(serialization.Encoding.PEM, form, plain).decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }


def _which(known: list[str], version: str) -> int | None:
    if version == "latest":
        return len(known) - 1 if known else None
    return int(version) - 1 if version.isdecimal() and 1 <= int(version) <= len(known) else None


class _Handler(http.server.BaseHTTPRequestHandler):
    vendor: VendorServices

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _do(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        status, answer, headers = self.vendor.answer(method, self.path, self.headers, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _certified(folder: Path) -> Path:
    """Make a certificate of 127.0.0.1 that is its own authority, and give the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the vendors' services of a test")])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(certificate.public_bytes(encoding))
    whole = folder / "server.pem"
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    whole.write_bytes(certificate.public_bytes(encoding) + key.private_bytes(encoding, form, plain))
    return whole


@contextlib.contextmanager
def vendor_services(folder: Path, *, is_emulator: bool = False) -> Iterator[VendorServices]:
    """Run them in a folder of the test's; clients trust them by `$REQUESTS_CA_BUNDLE`, which the test sets."""
    services = VendorServices(folder, is_emulator=is_emulator)
    with services.running():
        yield services
