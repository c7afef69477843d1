"""The suites of queues and topics can fail: each deliberately broken driver is caught by the case that is for it."""

from __future__ import annotations

import pytest

from tests.conformance.broken.run import failed

QUEUES = {
    "LosesOnRestart": "test_messages_survive_a_restart",
    "DeliversTwice": "test_receivers_race",
    "LeasesForEver": "test_lease_ends",
    "IgnoresAck": "test_ack_removes",
    "IgnoresNack": "test_nack",
    "LosesOnNack": "test_nack",
    "IgnoresExtend": "test_extend_holds",
    "IgnoresDelay": "test_delay",
    "IgnoresNackDelay": "test_nack_delay",
    "ForgetsRepeats": "test_dedup",
    "ForgetsRepeatsOnceHandled": "test_dedup",
    "ReordersAKey": "test_order_under_concurrency",
    "ShowsAKeyToMany": "test_one_of_a_key_at_a_time",
    "NackFreesTheKey": "test_nack_blocks_its_key",
    "DropsAttributes": "test_send_then_receive",
    "TakesBodiesForText": "test_any_bytes[all]",
    "LosesTheEndOfABatch": "test_send_many",
    "NeverBuries": "test_dead_letter_after_nacks",
    "DropsDeadLetters": "test_dead_letter_after_leases",
    "BuriesTooEarly": "test_dead_letter_after_nacks",
    "ForgetsTheReason": "test_reject",
    "MixesQueues": "test_queues_do_not_mix",
    "PurgesWhatIsReady": "test_purge",
    "PeeksByReceiving": "test_peek",
    "ForgetsWhatIsDue": "test_waiting_receive_wakes_when_due",
}

TOPICS = {
    "FeedsOneSubscription": "test_every_subscription_gets_a_copy",
    "IgnoresFilters": "test_filter",
    "FiltersByOneAttribute": "test_filter",
    "PublishesTheStartOfABatch": "test_publish_many",
    "PublishesTwice": "test_publishers_race",
    "Replays": "test_without_subscriptions",
    "ReordersATopic": "test_order",
}

SUBSCRIPTIONS = {"SendsToEverySubscription": "test_what_is_sent_stays_here"}


KINDS = {"Queue": QUEUES, "Topic": TOPICS, "Subscription": SUBSCRIPTIONS}
PARTS = 4


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_broken_drivers_are_caught(part: int) -> None:
    drivers = [(kind, driver, case) for kind, cases in KINDS.items() for driver, case in cases.items()][part::PARTS]
    broken = [(f"Test{driver}", case) for _, driver, case in drivers]
    sound = [(f"TestSound{kind}", case) for kind, _, case in drivers]
    found = failed("queue.py", [*broken, *sound])
    assert [case for case in broken if not found[case]] == []
    assert [case for case in sound if found[case]] == []
