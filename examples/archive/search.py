"""Which files have a word."""

from __future__ import annotations

from archive import Archive

__all__ = ["search"]


def search(archive: Archive, word: str) -> list[tuple[str, int]]:
    """Give the ten files that have a word most often, and how often; asked again, from the cache."""

    @archive.terms.cached(ttl=600, key="search/{run}/{word}")
    def ranked(run: str, word: str) -> list[list[str | int]]:
        # No index of the portable kind serves `contains`: the run's documents are read, and the cache keeps the answer.
        query = archive.documents.where("run", "==", run).where("words", "contains", word, allow_scan=True)
        hits = [(one.data.path, one.data.counts[one.data.words.index(word)]) for one in query]
        best = sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:10]
        # A cache holds JSON, which knows lists and no tuples.
        return [[path, count] for path, count in best]

    return [(str(path), int(count)) for path, count in ranked(archive.run, word.lower())]
