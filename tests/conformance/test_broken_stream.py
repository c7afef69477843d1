"""The suite of streams can fail: each deliberately broken driver is caught by the case that is for it."""

from __future__ import annotations

from tests.conformance.broken.run import failed

CAUGHT_BY = {
    "ReordersAKey": "test_a_key_keeps_its_order",
    "ScattersAKey": "test_a_key_keeps_its_order",
    "LosesOnRestart": "test_records_survive_a_restart",
    "PositionsDoNotCompare": "test_positions_compare",
    "TrimsWhatWasCommitted": "test_records_stay_though_they_were_read",
    "ShowsAPartitionToTwo": "test_members_share_the_partitions",
    "ForgetsCommits": "test_resumes_where_it_committed",
    "CommitsWhatWasFetched": "test_commit_counts_what_was_given",
    "StartsAtTheStart": "test_start_at_the_end",
    "ReadsARecordTwice": "test_read_after_a_position",
    "DropsAttributes": "test_append_then_read",
    "LosesTheEndOfABatch": "test_append_many",
    "RepartitionsOnOpen": "test_number_of_partitions",
}


def test_broken_drivers_are_caught() -> None:
    broken = [(f"Test{driver}", case) for driver, case in CAUGHT_BY.items()]
    working = [("TestWorking", case) for case in CAUGHT_BY.values()]
    found = failed("stream.py", [*broken, *working])
    assert [case for case in broken if not found[case]] == []
    assert [case for case in working if found[case]] == []
