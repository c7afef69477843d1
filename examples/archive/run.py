"""Archive a folder: store, queue, process in several processes, report, verify, search, and draw a page of it.

    python examples/archive/run.py --profile local

The provider is the profile's business: nothing here or beside it changes when the archive moves.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

import ingest
import report
from archive import CONFIG, MIB, Archive
from followers import Followers
from page import Outcome, page
from processing import process
from search import search
from sqlalchemy.exc import SQLAlchemyError
from steps import Steps
from verify import Finding, verify
from workers import WorkerFailedError, Workers

import portable
from portable.errors import ConfigError, PortableError


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")), help="[Python's standard library]"
    )
    parser.add_argument("--profile", default="local", help="where the resources are: a profile of portable.toml")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes [3]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the local profile has its data")
    parser.add_argument("--html", type=Path, metavar="FILE", help="the page [archive.html beside the data]")
    parser.add_argument("--search", default="thread", metavar="WORD", help="the word to search for [thread]")
    parser.add_argument("--no-kill", action="store_true", help="leave all workers alive")
    parser.add_argument("--verify-only", action="store_true", help="verify the newest run again, and search it")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    if options.workers < 1:
        parser.error("--workers takes a number from 1")
    return options


def archive_folder(options: argparse.Namespace, cloud: portable.Cloud) -> bool:
    """Do all of it; say whether the verification held."""
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    archive, steps = Archive(cloud, run), Steps()
    files = ingest.find(options.folder)
    if not files:
        raise FileNotFoundError(f"{options.folder} holds no files")
    size = sum(one.size for one in files) / MIB
    print(f"{options.folder}: {len(files):,} files, {size:,.1f} MiB; profile {cloud.profile}, run {run}")
    followers, killed = put_through(options, archive, files, steps)
    with steps.step("summed") as said:
        totals = report.summed(archive)
        hot = report.hot_terms(archive, totals)
        largest = report.largest_sources(archive, ".py")
        said += [
            f"result {totals.result[:16]}",
            f"{totals.words:,} words",
            f"{totals.redelivered} files were done on a later delivery",
        ]
    with steps.step("reported") as said:
        report.write(archive, totals, followers)
        notice = report.announced(archive)
        said += ["in the database", "announced through its outbox" if notice else "NOT announced"]
    with steps.step("verified") as said:
        findings = verify(archive, files, report.latest(archive, run))
        findings.append(Finding("the notice of the report came", [] if notice else ["it did not"]))
        said.append("against the files on the disk")
    searched(archive, options.search, steps)
    print(f"  hot terms: {', '.join(word for word, _ in hot[:10])}")
    outcome = Outcome(
        run, cloud.profile, str(options.folder), totals, followers, killed, hot, largest, findings, steps.done
    )
    options.html.parent.mkdir(parents=True, exist_ok=True)
    options.html.write_text(page(outcome), encoding="utf-8")
    print(f"  the page: {options.html}")
    return told(findings)


def put_through(
    options: argparse.Namespace, archive: Archive, files: list[ingest.SourceFile], steps: Steps
) -> tuple[Followers, dict[str, float]]:
    """Store the files, queue them, and have them processed and followed."""
    with steps.step("stored") as said:
        ingest.store(archive, files)
        said.append(f"{len(files):,} objects")
    with steps.step("queued") as said:
        ingest.queue(archive, files)
        said.append(f"{len(files):,} jobs")
    with (
        steps.step("processed") as said,
        Followers(archive) as followers,
        Workers(options.profile, options.workers) as workers,
    ):
        process(files, followers, workers, kill=not options.no_kill)
        said += [
            f"by {options.workers} processes, killed {', '.join(workers.killed) or 'none'}",
            f"{len(followers.everything):,} events ({len(followers.sources):,} through the filter)",
            f"{len(followers.clicks):,} clicks ({followers.repeated} twice)",
        ]
    return followers, workers.killed


def searched(archive: Archive, word: str, steps: Steps) -> None:
    """Search for a word, twice."""
    with steps.step("searched") as said:
        hits = search(archive, word)
        said.append(f"{word!r} in the documents")
    with steps.step("again") as said:
        search(archive, word)
        said.append("from the cache")
    for path, count in hits[:5]:
        print(f"    {count:6,}  {path}")
    if not hits:
        print(f"    no file has {word!r}")


def verify_again(options: argparse.Namespace, cloud: portable.Cloud) -> bool:
    """Verify the newest run that is kept, and search it."""
    steps = Steps()
    reported = report.latest(Archive(cloud, ""))
    if reported is None:
        raise FileNotFoundError("there is no run to verify; archive something first, or name its --keep DIR")
    archive = Archive(cloud, reported.run)
    print(f"{options.folder}; profile {cloud.profile}, run {reported.run}")
    with steps.step("verified") as said:
        findings = verify(archive, ingest.find(options.folder), reported)
        said.append("against the files on the disk")
    searched(archive, options.search, steps)
    return told(findings)


def told(findings: list[Finding]) -> bool:
    """Tell what the verification found; say whether all holds."""
    for one in findings:
        print(f"  {'WRONG' if one.wrong else 'right'}: {one.what}")
        for entry in one.wrong[:10]:
            print(f"         {entry}")
        if len(one.wrong) > 10:
            print(f"         and {len(one.wrong) - 10:,} more")
    right = not any(one.wrong for one in findings)
    print("every file arrived exactly once" if right else "the verification FAILED")
    return right


def main() -> int:
    """Run the command; give its exit code: 0 done, 1 failed, 2 usage, 3 the config is wrong."""
    options = arguments()
    if options.keep is not None:
        # Where the local profile has its data; others do not ask.
        os.environ["ARCHIVE_DATA"] = str(options.keep.resolve())
    if options.html is None:
        options.html = (options.keep or CONFIG.with_name(".portable")) / "archive.html"
    try:
        with portable.connect(CONFIG, profile=options.profile) as cloud:
            work = verify_again if options.verify_only else archive_folder
            return 0 if work(options, cloud) else 1
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (PortableError, SQLAlchemyError, OSError, WorkerFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
