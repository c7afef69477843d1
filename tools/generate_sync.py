"""Generate the sync face from the async source: `portable/aio/X.py` → `portable/X.py`, async and await dropped.

python tools/generate_sync.py            # all
python tools/generate_sync.py FILE …     # some
python tools/generate_sync.py --check    # fail where a committed file differs
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).parent.parent
BY_HAND = {"__init__.py", "_concurrency.py", "_engine.py"}
NAMES = {
    "aiter": "iter",
    "anext": "next",
    "aclosing": "closing",
    "aclose": "close",
    "asynccontextmanager": "contextmanager",
    "AsyncExitStack": "ExitStack",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncGenerator": "Generator",
    "AsyncEngine": "Engine",
    "AsyncConnection": "Connection",
    "AsyncSession": "Session",
    "async_engine": "engine",
    "async_session": "session",
}


def sources() -> list[Path]:
    """The async sources that have a generated twin."""
    folders = (
        ROOT / "portable" / "aio",
        ROOT / "portable" / "testing" / "aio",
        ROOT / "adapters" / "portable_redis" / "aio",
    )
    return [path for folder in folders for path in sorted(folder.glob("*.py")) if path.name not in BY_HAND]


def generated(source: Path) -> str:
    """The text of the sync twin."""
    with tempfile.TemporaryDirectory() as scratch:
        inside = Path(scratch, "aio", source.name)
        inside.parent.mkdir()
        text = source.read_text()
        # `Awaitable[T]` and `Coroutine[Any, Any, T]` say nothing once `await` is gone.
        text = re.sub(r"Coroutine\[Any, Any, ((?:[^\[\]]|\[[^\[\]]*\])*)\]", r"\1", text)
        text = re.sub(r"Awaitable\[((?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*)\]", r"\1", text)
        inside.write_text(text)
        rule = unasync.Rule(f"{scratch}/aio/", f"{scratch}/sync/", additional_replacements=NAMES)
        unasync.unasync_files([str(inside)], [rule])
        text = Path(scratch, "sync", source.name).read_text()
    text = text.replace("portable.testing.aio", "portable.testing").replace("portable.aio", "portable")
    text = text.replace("portable_redis.aio", "portable_redis")
    text = text.replace("async with", "with").replace("an async ", "a ").replace("`await ", "`")
    header = f"# Generated from {source.relative_to(ROOT)} by tools/generate_sync.py; change that file, not this one.\n"
    target = twin(source)
    for command in (["check", "--fix-only", "--quiet", "--select", "I,F401,UP"], ["format", "--quiet"]):
        text = subprocess.run(  # noqa: S603 (our own arguments)
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(target), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return header + text


def twin(source: Path) -> Path:
    """Where the sync twin of a source stands."""
    return source.parent.parent / source.name


def main() -> int:
    """Write the twins, or with `--check` name those that differ."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--check"]
    stale = 0
    named = [Path(argument).resolve() for argument in arguments if Path(argument).name not in BY_HAND]
    for source in named if arguments else sources():
        text, target = generated(source), twin(source)
        if target.exists() and target.read_text() == text:
            continue
        if "--check" in sys.argv:
            stale += 1
            print(f"{target.relative_to(ROOT)} is not what {source.relative_to(ROOT)} generates; run make sync")
        else:
            target.write_text(text)
            print(f"wrote {target.relative_to(ROOT)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
