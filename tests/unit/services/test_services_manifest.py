"""Manifests: read, refused with the line and the nearest right spelling, checked beyond the schema."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portable.errors import ConfigError
from portable.services.catalogue import built_in
from portable.services.checking import check, findings
from portable.services.manifest import Manifest, schema
from portable.services.reading import digest, read_service

from .conftest import MANIFEST, Write

BUILT_IN = sorted(path.name for path in built_in().folder.iterdir() if path.is_dir())


def line_of(text: str) -> int:
    return MANIFEST[: MANIFEST.index(text)].count("\n") + 1


def test_a_good_manifest_has_no_errors(write: Write) -> None:
    service = write()
    check(service)
    assert {severity for severity, _, _ in findings(service)} == {"warning"}
    assert service.manifest.parameters["level"].maximum == 9


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("persistent = true", "persistant = true", ":9: persistant", "no such key; did you mean persistent?"),
        ("minimum = 1", "minimun = 1", "parameters.level.minimun", "did you mean minimum?"),
        ('type = "integer"', 'type = "int"', "parameters.level.type", "Invalid enum value 'int'"),
        ("revision = 1", 'revision = "1"', "service.toml:4: revision", "Expected `int`, got `str`"),
        ('memory = "16MiB"', 'memory = "16MB"', "plans.dev.memory", "matching regex"),
        ("port = 7000", "port = 70000", "ports.main.port", "<= 65535"),
        ('source = "pypi"', 'source = "pip"', "process.software.0.source", "Invalid enum value 'pip'"),
        ("schema = 1", "schema = 2", "schema", "newer than this engine"),
        ("schema = 1", "schema = 0", "schema", "Invalid enum value 0"),
        ('license = "Apache-2.0"', "", "service.toml", "the key 'license' is missing"),
        ('expect = "PONG"', 'expects = "PONG"', "probes.ready.exchange.0.expects", "did you mean expect?"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_named_by_its_place(write: Write, old: str, new: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write((old, new))
    assert where in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("${volume:data}", "${volume:dat}", "no volume 'dat'; did you mean data?"),
        ("${file:demo.conf}", "${file:demo.cnf}", "no file 'demo.cnf'; did you mean demo.conf?"),
        ("@${host}", "@${hots}", r"\${hots:…} is nothing; did you mean \${host:…}?"),
        ("@${host}", "@${host", "is no reference; write"),
        ('["${command:demo}", "check"]', '["${command:dmo}", "check"]', r"software 0 \(pypi\) gives no command 'dmo'"),
        ("PING ${parameter:password}", "PING ${parameter:pass}", "no parameter 'pass'; did you mean password?"),
        ('volume = "data"', 'volume = "date"', "no volume 'date'; did you mean data?"),
        ('port = "main"', 'port = "mian"', "no port 'mian'; did you mean main?"),
        ('expect = "PONG"', 'expect = "PONG", port = "mian"', r"exchange\.0\.port: no port 'mian'; did you mean main"),
        ("port = 7000", 'port = 7000\nscope = "internal"', "the port 'main' is internal, which a container"),
        ('expect = "PONG"', 'expect = "("', "is no regular expression"),
        ('license = "Apache-2.0"', 'license = "Apache 2"', "'Apache 2' is no SPDX expression, such as BSD-3-Clause"),
        ("[probes.ready]", '[container]\ncommand = ["${software}"]\n\n[probes.ready]', "which no container has"),
        ("parameters = { level = 2 }", "parameters = { levels = 2 }", "no parameter 'levels'; did you mean level?"),
        ("parameters = { level = 2 }", "parameters = { level = 10 }", "parameter level: 10 must be at most 9"),
        ("default = 3", 'default = "3"', "parameter level: '3' is no integer"),
        ("generated = { length = 16 }", "generated = { length = 7 }", "8 to 256 characters can be generated"),
        ("generated = { length = 16 }", 'default = "admin123"', "a secret with a default is no secret"),
        ("sensitive = true", 'sensitive = true\npattern = "["', "the pattern is no regular expression"),
        ('"demo-bin==1.0"', '"demo-bin"', "the package 'demo-bin' has no version; write it as NAME==VERSION"),
        ('source = "pypi"', 'source = "path"', "source path takes no packages"),
        ("commands = {", 'sha256 = { "demo==1.0" = [] }\ncommands = {', "sha256 is given for 'demo==1.0', which is no"),
        ('[files."demo.conf"]', '[files."../demo.conf"]', "is no name of a file"),
        ('text = "password', 'template = "x"\ntext = "password', "give either template or text"),
        ('text = "password ${parameter:password}"', 'template = "../../x"', "leads out of the service's folder"),
        ('text = "password ${parameter:password}"', 'template = "files/none"', "cannot be read: No such file"),
        ('port = "main"\nexchange', "exchange", "a probe is either a port with an exchange, or a command"),
        ('["${command:demo}", "dump"]', '["${command:dump}"]', "gives no command 'dump'"),
    ],
)  # fmt: skip
def test_names_that_lead_nowhere_are_errors(write: Write, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(write((old, new)))


def test_findings_name_the_line(write: Write) -> None:
    found = {message: where for _, where, message in findings(write())}
    (image,) = [where for message, where in found.items() if "no digest" in message]
    assert f"service.toml:{line_of('[images.server]')}: images.server" in image
    assert any("has no sha256, so only the index vouches" in message for message in found)


def test_what_is_no_longer_maintained_is_a_warning(write: Write) -> None:
    service = write(("persistent = true", "persistent = true\nmaintained-until = 2020-01-01"))
    assert any("no longer maintained" in message for _, _, message in findings(service))


def test_the_folder_is_part_of_it(write: Write) -> None:
    folder = write().folder
    (folder / "README.md").unlink()
    with pytest.raises(ConfigError, match=r"there is no README\.md beside it"):
        check(read_service(folder))
    (folder / "README.md").write_text("# demo")
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="files and folders only"):
        check(read_service(folder))
    (folder / "passwd").unlink()
    check(read_service(folder))
    moved = folder.rename(folder.with_name("other"))
    with pytest.raises(ConfigError, match="the folder is called 'other'"):
        check(read_service(moved))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8 text"),
        (b"a = [", "not TOML"),
        (b"a = 1" + b"0" * 5000, "a number is too long"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_no_manifest_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "service.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_service(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_service(tmp_path / "none")


def test_a_digest_tells_every_change(write: Write) -> None:
    folder = write().folder
    seen = {digest(folder)}
    assert digest(folder) in seen
    (folder / "README.md").write_text("# other")
    seen.add(digest(folder))
    (folder / "README.md").chmod(0o755)
    seen.add(digest(folder))
    (folder / "README.md").rename(folder / "README")
    seen.add(digest(folder))
    assert len(seen) == 4


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_service_of_ours_is_right(name: str) -> None:
    service = read_service(built_in().folder / name)
    assert [finding for finding in findings(service) if finding.severity == "error"] == []
    assert all(image.digest is not None or "no digest" for image in service.manifest.images.values())
    assert len((service.folder / "README.md").read_text().splitlines()) > 8


def test_the_schema_takes_what_is_read(write: Write) -> None:
    made = schema()
    properties = made["$defs"]["Manifest"]["properties"]
    fields = {field.encode_name for field in msgspec.structs.fields(Manifest)}
    assert set(properties) == fields
    assert made["$defs"]["Manifest"]["additionalProperties"] is False


_LINES = MANIFEST.splitlines()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_manifest_gives_another_error(tmp_path: Path, data: st.DataObject) -> None:
    lines = list(_LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key = re.match(r"[\w-]+", lines[at])
        value = data.draw(
            st.sampled_from(
                ['""', "0", "-1", "[]", "{}", "true", "1.5", '"${"', '"${x:y}"', "[{}]", '"\\u0000"', '["("]']
            )
        )
        lines[at] = f"{key[0] if key else data.draw(st.text(max_size=5))} = {value}"
    folder = tmp_path / "demo"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text("# demo")
    (folder / "service.toml").write_text("\n".join(lines), errors="surrogatepass")
    with contextlib.suppress(ConfigError):
        check(read_service(folder))
