"""References to secret managers: what they give, by the vendors' clients, and what is said where they give nothing.

AWS Secrets Manager is that of two emulators. Of Key Vault and Secret Manager no registry has one, so they are servers
of `tests.vendor_services`, which speak the documented protocols.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from portable.config import Config
from portable.errors import (
    ConfigError,
    IntegrityError,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests.redis_servers import free_port
from tests.targets import target
from tests.vendor_services import CLIENT, CLIENT_SECRET, TENANT, VendorServices, vendor_services

SECRET = "p@ss/w:?#rd&%41 ü"  # noqa: S105 (what is planted)
FIELDS = '{"user": "app", "password": "5ecret-of-json", "port": 5432, "tls": true, "deep": {"x": 1}, "none": null}'


def url_of(written: str) -> Any:
    """Bind a database whose password is a reference."""
    binding = f"postgresql://app:{written}@db.example.com/main"
    tree = {"resources": {"main": {"kind": "database"}}, "profiles": {"here": {"bind": {"main": binding}}}}
    return Config.from_dict(tree).profile("here").bound("main", "database").url


def given(written: str) -> str | None:
    found: str | None = url_of(written).password
    return found


def refused(written: str, kind: type[PortableError]) -> str:
    with pytest.raises(kind) as caught:
        given(written)
    said = str(caught.value)
    assert "5ecret" not in said
    assert said.startswith("main: ")
    return said


class AwsSecrets:
    """What holds at AWS Secrets Manager."""

    server: str

    @pytest.fixture(autouse=True)
    def _client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target(self.server)).query).items()}
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", query["access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", query["secret_access_key"])
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        self.endpoint = query["endpoint"]
        self.client = boto3.client("secretsmanager", endpoint_url=self.endpoint, region_name="eu-west-1")
        self.at = f"region=eu-west-1&endpoint={quote(self.endpoint, safe='')}"

    def made(self, **value: Any) -> Any:
        return self.client.create_secret(Name=f"portable/{uuid.uuid4().hex}", **value)

    def test_gives_a_secret_by_name_and_by_arn(self) -> None:
        made = self.made(SecretString=SECRET)
        assert given(f"${{aws-secret:{made['Name']}?{self.at}}}") == SECRET
        assert given(f"${{aws-secret:{made['ARN']}?endpoint={quote(self.endpoint, safe='')}}}") == SECRET

    def test_gives_one_field_of_json(self) -> None:
        name = self.made(SecretString=FIELDS)["Name"]
        assert given(f"${{aws-secret:{name}?{self.at}#password}}") == "5ecret-of-json"
        assert given(f"${{aws-secret:{name}?{self.at}#port}}") == "5432"
        assert given(f"${{aws-secret:{name}?{self.at}#tls}}") == "true"

    def test_gives_the_version_that_is_asked_for(self) -> None:
        made = self.made(SecretString="first")
        self.client.put_secret_value(SecretId=made["Name"], SecretString="second")
        assert given(f"${{aws-secret:{made['Name']}?{self.at}}}") == "second"
        assert given(f"${{aws-secret:{made['Name']}?{self.at}&version=AWSPREVIOUS}}") == "first"
        assert given(f"${{aws-secret:{made['Name']}?{self.at}&version={made['VersionId']}}}") == "first"

    def test_bytes_are_text_or_refused(self) -> None:
        assert given(f"${{aws-secret:{self.made(SecretBinary=SECRET.encode())['Name']}?{self.at}}}") == SECRET
        name = self.made(SecretBinary=b"\xff5ecret")["Name"]
        assert "is bytes, and no UTF-8 text" in refused(f"${{aws-secret:{name}?{self.at}}}", ConfigError)

    def test_what_is_missing_is_named(self) -> None:
        said = refused(f"${{aws-secret:portable/none?{self.at}}}", ResourceNotFound)
        assert "${aws-secret:portable/none?" in said
        assert "there is no such secret, or no such version of it, in this region" in said


class TestAwsOnMinistack(AwsSecrets):
    server = "ministack"


@pytest.mark.thorough
class TestAwsOnMoto(AwsSecrets):
    server = "moto"


def test_aws_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA5ecret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "5ecret")
    away = quote(f"http://127.0.0.1:{free_port()}", safe="")
    said = refused(f"${{aws-secret:db?region=eu-west-1&endpoint={away}}}", Unavailable)
    assert "the service cannot be reached" in said


def test_aws_without_a_region_or_a_profile_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert "no region is set" in refused("${aws-secret:db}", ConfigError)
    assert "there is no such profile" in refused("${aws-secret:db?profile=prod&region=eu-west-1}", ConfigError)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VendorServices]:
    with vendor_services(tmp_path) as services:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(services.certificate))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(services.key_file))
        for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
        monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
        monkeypatch.setenv("AZURE_CLIENT_SECRET", CLIENT_SECRET)
        # Of the whole chain the application of the environment alone: the others look for themselves in the network.
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        yield services


class TestGoogle:
    """What holds at Secret Manager."""

    @pytest.fixture(autouse=True)
    def _there(self, vendor: VendorServices) -> None:
        vendor.secrets["/v1/projects/acme-prod/secrets/db"] = ["first", SECRET]
        vendor.secrets["/v1/projects/other/secrets/db"] = [FIELDS]
        vendor.secrets["/v1/projects/other/locations/europe-west6/secrets/db"] = ["regional"]
        self.vendor = vendor
        self.at = f"endpoint={quote(vendor.url, safe='')}"

    def test_gives_a_secret_of_the_credentials_project_or_of_another(self) -> None:
        assert given(f"${{gcp-secret:db?{self.at}}}") == SECRET
        assert given(f"${{gcp-secret:other/db?{self.at}}}") == FIELDS
        assert given(f"${{gcp-secret:projects/acme-prod/secrets/db?{self.at}}}") == SECRET
        assert given(f"${{gcp-secret:projects/other/locations/europe-west6/secrets/db?{self.at}}}") == "regional"

    def test_gives_a_version_and_a_field(self) -> None:
        assert given(f"${{gcp-secret:db?version=1&{self.at}}}") == "first"
        assert given(f"${{gcp-secret:projects/acme-prod/secrets/db/versions/1?{self.at}}}") == "first"
        assert given(f"${{gcp-secret:other/db?{self.at}#password}}") == "5ecret-of-json"

    def test_what_is_missing_forbidden_or_damaged_is_said(self) -> None:
        assert "has no such secret" in refused(f"${{gcp-secret:none?{self.at}}}", ResourceNotFound)
        self.vendor.damaged = True
        assert "came damaged" in refused(f"${{gcp-secret:db?{self.at}}}", IntegrityError)
        self.vendor.refusal = 403
        assert "have no role that allows it" in refused(f"${{gcp-secret:db?{self.at}}}", PermissionDenied)

    def test_an_emulator_needs_no_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
        with vendor_services(tmp_path, is_emulator=True) as emulator:
            emulator.secrets["/v1/projects/acme-prod/secrets/db"] = [SECRET]
            at = f"endpoint={quote(emulator.url, safe='')}"
            assert given(f"${{gcp-secret:acme-prod/db?{at}}}") == SECRET
            assert "the credentials name no project" in refused(f"${{gcp-secret:db?{at}}}", ConfigError)
        # The way to Google itself asks for them.
        refused(f"${{gcp-secret:acme-prod/db?{self.at}}}", Unauthenticated)

    def test_a_key_that_was_rotated_away_is_refused(self) -> None:
        account = json.loads(self.vendor.key_file.read_text())
        account["private_key"] = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            .decode()
        )
        kept = self.vendor.key_file.read_text()
        self.vendor.key_file.write_text(json.dumps(account))
        assert "the credentials are not accepted" in refused(f"${{gcp-secret:db?{self.at}}}", Unauthenticated)
        self.vendor.key_file.write_text(kept)
        assert given(f"${{gcp-secret:db?{self.at}}}") == SECRET

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("a/b/c", "a secret is written PROJECT/NAME"),
            ("db?endpoint=here", "endpoint= takes a URL"),
            ("projects/p/secrets/db/versions/1?version=2", "the version stands twice"),
        ],
    )
    def test_what_is_no_secret_is_said(self, written: str, said: str) -> None:
        assert said in refused(f"${{gcp-secret:{written}}}", ConfigError)


class TestAzure:
    """What holds at Key Vault."""

    @pytest.fixture(autouse=True)
    def _there(self, vendor: VendorServices) -> None:
        vendor.secrets["/secrets/db"] = ["first", SECRET]
        vendor.secrets["/secrets/whole"] = [FIELDS]
        self.vendor = vendor
        self.at = f"authority={quote(vendor.url, safe='')}"

    def test_gives_a_secret_its_versions_and_fields(self) -> None:
        vault = self.vendor.url
        assert given(f"${{azure-secret:{vault}/secrets/db?{self.at}}}") == SECRET
        assert given(f"${{azure-secret:{vault}/secrets/db/1?{self.at}}}") == "first"
        assert given(f"${{azure-secret:{vault}/secrets/db?version=1&{self.at}}}") == "first"
        assert given(f"${{azure-secret:{vault}/secrets/whole?{self.at}#password}}") == "5ecret-of-json"
        assert {scope for scope, _ in self.vendor.tokens} == {f"https://0.0.1:{self.vendor.port}/.default"}

    def test_what_is_missing_or_forbidden_is_said(self) -> None:
        vault = self.vendor.url
        assert "has no such secret" in refused(f"${{azure-secret:{vault}/secrets/none?{self.at}}}", ResourceNotFound)
        self.vendor.refusal = 403
        assert "forbids it" in refused(f"${{azure-secret:{vault}/secrets/db?{self.at}}}", PermissionDenied)

    def test_a_rotated_client_secret_is_said_and_the_new_one_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written = f"${{azure-secret:{self.vendor.url}/secrets/db?{self.at}}}"
        self.vendor.client_secret = "5ecret-that-is-new"  # noqa: S105 (what the test knows)
        refused(written, Unauthenticated)
        monkeypatch.setenv("AZURE_CLIENT_SECRET", self.vendor.client_secret)
        assert given(written) == SECRET

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("db", "a secret is written VAULT/NAME"),
            ("http://vault.example/secrets/db", "a secret is written VAULT/NAME"),
            ("https://vault.example/keys/db", "a secret is written VAULT/NAME"),
            ("https://vault.example/secrets/db/1?version=2", "the version stands twice"),
        ],
    )
    def test_what_is_no_secret_is_said(self, written: str, said: str) -> None:
        assert said in refused(f"${{azure-secret:{written}}}", ConfigError)


def test_several_fields_of_a_secret_are_of_one_version(vendor: VendorServices) -> None:
    vendor.secrets["/v1/projects/acme-prod/secrets/db"] = [FIELDS]
    at = f"endpoint={quote(vendor.url, safe='')}"
    binding = f"postgresql://${{gcp-secret:db?{at}#user}}:${{gcp-secret:db?{at}#password}}@h:${{gcp-secret:db?{at}#port}}/main"
    tree = {"resources": {"main": {"kind": "database"}}, "profiles": {"here": {"bind": {"main": binding}}}}
    profile = Config.from_dict(tree).profile("here")
    url = profile.bound("main", "database").url
    assert (url.username, url.password, url.port) == ("app", "5ecret-of-json", 5432)
    assert len(vendor.asked) == 1
    assert str(url) == binding
    # And each time that it is bound the newest.
    vendor.secrets["/v1/projects/acme-prod/secrets/db"].append(FIELDS.replace("5ecret-of-json", "rotated"))
    assert profile.bound("main", "database").url.password == "rotated"  # noqa: S105 (what is planted)


def test_no_vendors_client_is_imported_before_a_reference_is_resolved() -> None:
    program = """
import sys
from portable.config import Config
tree = {"resources": {"main": {"kind": "database"}}, "profiles": {"here": {"bind": {"main": "postgresql://a:${SCHEME:x}@h/d"}}}}
for scheme in ("aws-secret", "gcp-secret", "azure-secret"):
    tree["profiles"]["here"]["bind"]["main"] = "postgresql://a:${%s:acme/db}@h/d" % scheme
    assert not Config.from_dict(tree).check_all()
bad = [name for name in sys.modules if name.partition(".")[0] in {"boto3", "botocore", "azure", "google"}]
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
