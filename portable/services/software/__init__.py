"""Software for the `process` runtime: fetched by each registry's own client, verified, and unpacked privately.

| source | by | verified by |
|---|---|---|
| `path` | nothing is fetched | whoever installed it |
| `pypi` | `pip install --target` | the manifest's SHA-256 where it has one (`--require-hashes`), else the index alone |
| `debian` | `apt-get download`, `dpkg-deb --extract` | apt: the archive's signature, and by it each SHA-256 |
| `npm` | `npm install --ignore-scripts` | npm: the registry's SHA-512 of each package |
| `maven` | `mvn dependency:copy-dependencies` | Maven: the repository's checksums, strictly |
| `go` | `go install` | Go: the checksum database |
| `crates` | `cargo install --locked` | Cargo: the registry's SHA-256 and the crate's own lock file |
"""

from __future__ import annotations

from portable.services.software.fetching import Fetched, environment_of, fetch, locate, unused

__all__ = ["Fetched", "environment_of", "fetch", "locate", "unused"]
