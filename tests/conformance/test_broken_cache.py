"""The suite of caches catches each cache that breaks a promise."""

from __future__ import annotations

from tests.conformance.broken.run import failed

CAUGHT_BY = {
    "TestForgetsTtl": "test_a_value_is_gone_within_a_second_of_its_ttl",
    "TestAddsTwice": "test_of_twenty_that_add_one_succeeds",
    "TestLosesIncrements": "test_no_increment_of_twenty_callers_is_lost",
    "TestRenewsTtl": "test_incr_sets_the_time_to_live_when_it_creates",
    "TestWraps": "test_a_counter_does_not_wrap",
    "TestClearsNeighbours": "test_a_cache_has_names_of_its_own_and_clear_empties_only_that",
    "TestGivesAnothers": "test_hostile_keys_are_keys_of_their_own",
    "TestTakesNoneForAMiss": "test_none_is_told_from_a_miss",
    "TestTakesBytesForText": "test_values_come_back_as_they_are",
    "TestLocksForTwo": "test_a_lock_has_one_holder",
    "TestReleasesAnothers": "test_a_lock_that_ran_out_is_lost",
    "TestRepeatsTokens": "test_tokens_grow_with_each_holder",
    "TestIgnoresExtensions": "test_an_extended_lock_stays",
}


def test_each_broken_cache_is_caught() -> None:
    broken = list(CAUGHT_BY.items())
    sound = [("TestSound", case) for case in CAUGHT_BY.values()]
    found = failed("cache.py", [*broken, *sound])
    assert [case for case in broken if not found[case]] == []
    assert [case for case in sound if found[case]] == []
