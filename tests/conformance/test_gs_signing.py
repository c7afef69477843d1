"""Requests that the IAM API signs for Cloud Storage, in the name of a service account whose key nobody has at hand.

No emulator of that API is to be had: here it is as its reference says, behind a proxy, by TLS, under its own name.
cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from google.auth.credentials import Credentials

from portable import open_bucket
from portable.errors import PermissionDenied, Unauthenticated
from tests.targets import target

HOST = "iamcredentials.googleapis.com"
ACCOUNT = "app@acme-prod.iam.gserviceaccount.com"
TOKEN = "t0ken-of-the-account"  # noqa: S105 (what the test knows)


class Account(Credentials):
    """What the metadata server of a machine gives: a token, and the name of the account after the first."""

    service_account_email = "default"

    def refresh(self, request: Any) -> None:
        self.token = TOKEN
        self.service_account_email = ACCOUNT


class Iam:
    """The API, and the proxy before it.

    Attributes:
        key: the account's.
        signed: what it has signed.
        refusal: the status with which it refuses, instead of signing.
        proxy: the URL of the proxy.
        authority: the file that says whom to trust.
    """

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.signed: list[bytes] = []
        self.refusal: int | None = None
        self.authority = folder / "iam.pem"
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(_certified(folder, self.authority))
        iam = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                assert self.path == f"{HOST}:443"
                self.send_response(200)
                self.end_headers()
                self.connection = iam._tls.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb")
                self.close_connection = False

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = iam.answer(self.path, self.headers["authorization"], body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                self.wfile.flush()

            def finish(self) -> None:
                super().finish()
                self.connection.close()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.proxy = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str, authorization: str, body: dict[str, str]) -> tuple[int, dict[str, Any]]:
        assert urlsplit(path).path == f"/v1/projects/-/serviceAccounts/{ACCOUNT}:signBlob"
        if self.refusal is not None:
            return self.refusal, {"error": {"code": self.refusal, "message": f"not for {TOKEN}"}}
        assert authorization == f"Bearer {TOKEN}"
        payload = base64.b64decode(body["payload"])
        self.signed.append(payload)
        signature = self.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return 200, {"keyId": "1", "signedBlob": base64.b64encode(signature).decode()}


@pytest.fixture
def url() -> str:
    return target("fake-gcs-server", "bucket")


# Behind the URL: what makes a server is not to go through this proxy.
@pytest.fixture
def iam(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iam]:
    iam = Iam(tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", iam.proxy)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(iam.authority))
    thread = threading.Thread(target=iam.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield iam
    iam.server.shutdown()
    thread.join()
    iam.server.server_close()


@pytest.fixture
def bucket(url: str, iam: Iam) -> Iterator[Any]:
    with open_bucket(url, name="signed-by-iam", create="if_missing") as bucket:
        bucket.check()
        bucket.native._credentials = Account()  # type: ignore[no-untyped-call]  # its kind has no types
        yield bucket


def test_the_iam_api_signs_for_an_account_without_a_key(iam: Iam, bucket: Any) -> None:
    signed = bucket.sign("a b/é", method="PUT", content_type="text/plain", expires=600)
    parts = urlsplit(signed.url)
    query = dict(parse_qsl(parts.query))
    assert query["X-Goog-Credential"].startswith(f"{ACCOUNT}/")
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    (payload,) = iam.signed
    iam.key.public_key().verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
    # As cloud.google.com/storage/docs/authentication/canonical-requests says.
    canonical = "\n".join(
        [
            "PUT",
            parts.path,
            parts.query.partition("&X-Goog-Signature=")[0],
            f"content-type:{signed.headers['content-type']}",
            f"host:{parts.netloc}",
            "",
            query["X-Goog-SignedHeaders"],
            "UNSIGNED-PAYLOAD",
        ]
    )
    *_, digest = payload.decode().split("\n")
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDenied), (401, Unauthenticated)])
def test_an_account_that_may_not_sign_is_told_so(iam: Iam, bucket: Any, status: int, error: type[Exception]) -> None:
    iam.refusal = status
    with pytest.raises(error) as caught:
        bucket.sign("key")
    assert TOKEN not in f"{caught.value} {caught.value!r}"


def _certified(folder: Path, authority: Path) -> Path:
    """Make a certificate of the API's name that trusts itself, and give the file that has it and its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority.write_bytes(certificate)
    both = folder / "iam-with-key.pem"
    both.write_bytes(certificate + private)
    return both
