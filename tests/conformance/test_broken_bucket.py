"""The suite of buckets catches each bucket that breaks a promise."""

from __future__ import annotations

from tests.conformance.broken.run import failed

CAUGHT_BY = {
    "TestIgnoresIfAbsent": "test_if_absent_writes_only_where_nothing_is",
    "TestChecksThenWrites": "test_of_twenty_that_write_if_absent_one_wins",
    "TestIgnoresIfMatch": "test_of_twenty_that_write_if_match_one_wins",
    "TestDeletesAnyVersion": "test_delete_with_if_match_deletes_only_that_version",
    "TestCollidesKeys": "test_hostile_keys_are_keys_of_their_own",
    "TestLosesEverySeventh": "test_many_objects_come_back_in_order",
    "TestDropsMetadata": "test_an_object_is_described",
    "TestGarblesMetadata": "test_metadata_comes_back",
    "TestKeepsOldMetadata": "test_an_overwritten_object_keeps_nothing",
    "TestListsStale": "test_reading_listing_and_deleting_are_consistent",
    "TestListsInOrderOfUtf16": "test_keys_are_listed_in_byte_order",
    "TestListsWholeSegments": "test_prefixes_and_delimiters_select[None]",
    "TestListsPagesByNumber": "test_pages_go_on_while_keys_come_and_go[2]",
    "TestKnowsOnlySlashes": "test_prefixes_and_delimiters_select[-]",
    "TestForgetsTheRangesEnd": "test_ranges_at_every_edge[10]",
    "TestRefusesPastTheEnd": "test_ranges_at_every_edge[1]",
    "TestReadsAnyVersion": "test_a_reader_stays_with_its_version",
    "TestEtagOfLength": "test_the_etag_changes_with_every_change_of_content",
    "TestShowsPartsEarly": "test_a_large_writer_commits_whole",
    "TestMixesUpParts": "test_a_local_file_goes_up_and_down[parts]",
    "TestTearsObjects": "test_a_reader_sees_the_old_or_the_new_object_never_a_mix",
    "TestCopiesBytesOnly": "test_a_copy_is_whole",
    "TestFailsOnMissing": "test_what_is_missing_is_not_found",
    "TestLosesDeletes": "test_many_objects_come_back_in_order",
}


def test_each_broken_bucket_is_caught() -> None:
    broken = list(CAUGHT_BY.items())
    sound = [("TestSound", case) for case in CAUGHT_BY.values()]
    found = failed("bucket.py", [*broken, *sound])
    assert [case for case in broken if not found[case]] == []
    assert [case for case in sound if found[case]] == []
