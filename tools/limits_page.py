"""The reference page of the limits, made of `portable/limits.toml`: `python tools/limits_page.py [--check]`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from portable.limits import Row, table

PAGE = Path(__file__).parents[1] / "docs/reference/limits.md"
HEAD = """\
# Limits of the real services

Made of `portable/limits.toml` by `python tools/limits_page.py`. A profile with `guard.limits = ["aws", "gcp", "azure"]`
refuses on any backend what these services would refuse, at the call that does it; see
[Stay portable](../how-to/stay-portable.md). A cloud's name means the service that its profile would use for the kind.

What a number counts: `bytes` are UTF-8, or as given (of a message the body, the key, and every attribute's name and
value); `body` is the body alone; `text`, `base64` and `envelope` are as the service's driver stores a message;
`header` and `identifier` are metadata as it is escaped; `dynamodb` and `firestore` are the vendor's own sums over the
fields of a document.
"""


def page() -> str:
    """Write every row as Markdown, a table for each service."""
    return "\n".join([HEAD, *_sections(table())])


def _sections(rows: list[Row]) -> Iterator[str]:
    for (service, cloud), group in itertools.groupby(rows, key=lambda row: (row.service, row.cloud)):
        yield f"## {service}\n\n{cloud}\n\n| kinds | limit | value | counts | source |\n|---|---|---|---|---|"
        for row in group:
            kinds = ", ".join(row.kinds)
            value = row.value.replace("|", "\\|")
            yield f"| {kinds} | `{row.limit}` | {value} | {row.counts} | [vendor]({row.source}) |"
        yield ""


def main() -> int:
    """Write the page, or with `--check` say whether it is as it would be written."""
    text = page()
    if "--check" in sys.argv[1:]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is up to date" if same else f"{PAGE.name} drifted; run python tools/limits_page.py")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
