"""What an identity of Entra ID signs at Blob Storage, on Azurite with TLS: it takes bearer tokens over nothing else.

Azurite looks at a token's issuer, audience and times, and at no signature of it (`--oauth basic`); the signature of a
request in the identity's name it checks whole.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from azure.core.credentials import AccessToken

from portable import open_bucket
from portable.errors import LimitExceeded
from portable.services import Services
from tests.certificates import Certificate
from tests.targets import PROJECT, target

TENANT = "11111111-2222-3333-4444-555555555555"
WITHIN = 60.0


class Identity:
    """Somebody who is signed in."""

    asked = 0

    def get_token(self, *_scopes: str, **_how: Any) -> AccessToken:
        self.asked += 1
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + 3600,
            "oid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "tid": TENANT,
        }
        parts = [json.dumps({"alg": "none"}).encode(), json.dumps(claims).encode(), b"unchecked"]
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        return AccessToken(token, now + 3600)

    def close(self) -> None:
        pass


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make the certificate of a server, and let clients believe in who gave it."""
    authority = Certificate("tests")
    own = Certificate("127.0.0.1", authority)
    tmp_path.joinpath("ca.pem").write_bytes(authority.pem)
    tmp_path.joinpath("own.pem").write_bytes(own.pem + authority.pem)
    tmp_path.joinpath("own.key").write_bytes(own.key_pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))


@pytest.fixture
def url(tmp_path: Path, trusted: ssl.SSLContext) -> Iterator[str]:
    # The shared one speaks without TLS; it is what fetches the program.
    target("azurite", "bucket")
    packages = Services(Path(os.environ[PROJECT])).home.packages
    (program,) = packages.glob("npm-azurite-*/root/node_modules/azurite/dist/src/blob/main.js")
    node = shutil.which("node")
    assert node is not None
    flags = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--oauth", "basic"]
    tls = ["--cert", str(tmp_path / "own.pem"), "--key", str(tmp_path / "own.key")]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"acme:{base64.b64encode(os.urandom(48)).decode()}"}
    with subprocess.Popen(
        [node, str(program), *flags, *tls, "--blobHost", "127.0.0.1", "--blobPort", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            # It says where it listens when it does.
            said = next(line for line in process.stdout if "successfully listens on" in line)
            yield f"az://acme/signed?endpoint={said.split()[-1]}/acme&engine=azure-storage-blob"
        finally:
            process.kill()


def test_an_identity_signs_for_seven_days_at_most(url: str, trusted: ssl.SSLContext) -> None:
    pool = urllib3.PoolManager(ssl_context=trusted, timeout=WITHIN)
    with open_bucket(url, create="if_missing") as bucket, pool:
        driver: Any = bucket._driver
        driver._blobs.clients._credential = identity = Identity()
        bucket.put("a b.txt", b"bytes")
        signed = bucket.sign("a b.txt", expires=60)
        assert "skoid=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" in signed.url
        asked = identity.asked
        assert pool.request("GET", signed.url).data == b"bytes"
        put = bucket.sign("c", method="PUT", expires=60)
        assert identity.asked == asked, "one key of the service signs many requests"
        assert pool.request("PUT", put.url, body=b"up", headers=put.headers).status == 201
        assert bucket.get("c") == b"up"
        for wrong in (put.url.replace("sig=", "sig=A"), put.url.replace("/c?", "/d?")):
            assert pool.request("PUT", wrong, body=b"", headers=put.headers).status == 403
        with pytest.raises(LimitExceeded, match="7 days"):
            bucket.sign("c", expires=8 * 86400)
