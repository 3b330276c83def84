"""The bounds of Pub/Sub's table, and what follows from settings by arithmetic."""

import pytest

from streamflow.base.errors import ConflictError, DataError, FilterError
from streamflow.topics.subscriptions.settings import (
    DAY_S,
    DeadLetterPolicy,
    RetryPolicy,
    SubscriptionSettings,
    check_ack_deadline,
    snapshot_expires_us,
)

DAY_US = DAY_S * 1_000_000


def test_defaults_are_pubsubs():
    settings = SubscriptionSettings()
    assert (settings.ack_deadline_s, settings.retention_s, settings.expiry_s) == (10, 7 * DAY_S, 31 * DAY_S)
    assert (settings.exactly_once, settings.ordered, settings.retain_acked, settings.retry) == (
        False,
        False,
        False,
        None,
    )
    assert (RetryPolicy().backoff_min_s, RetryPolicy().backoff_max_s) == (10, 600)
    assert DeadLetterPolicy("dead").attempts_max == 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SubscriptionSettings(ack_deadline_s=9), "ack_deadline_s is 9, out of bounds. Give 10 to 600"),
        (lambda: SubscriptionSettings(ack_deadline_s=601), "10 to 600"),
        (lambda: SubscriptionSettings(ack_deadline_s=float("nan")), "10 to 600"),
        (lambda: SubscriptionSettings(retention_s=599), "600 to 2678400"),
        (lambda: SubscriptionSettings(retention_s=31 * DAY_S + 1), "600 to 2678400"),
        (lambda: SubscriptionSettings(expiry_s=DAY_S - 1), "None for never"),
        (lambda: SubscriptionSettings(outstanding_messages_max=0), "outstanding_messages_max"),
        (lambda: SubscriptionSettings(outstanding_bytes_max=0), "outstanding_bytes_max"),
        (lambda: RetryPolicy(backoff_max_s=601), "0 to 600"),
        (lambda: RetryPolicy(20, 10), "Exchange them"),
        (lambda: DeadLetterPolicy("dead", 4), "5 to 100"),
        (lambda: DeadLetterPolicy("dead", 101), "5 to 100"),
        (lambda: check_ack_deadline(601), "0 to 600"),
        (lambda: check_ack_deadline(-1), "0 to 600"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_bounds(make, said):
    with pytest.raises(DataError, match=said):
        make()


def test_filter_is_checked_when_the_settings_are_made():
    with pytest.raises(FilterError, match="column 14"):
        SubscriptionSettings(filter="attributes:a and attributes:b")


def test_backoff_doubles_up_to_its_maximum():
    retry = RetryPolicy(10, 600)
    assert [retry.backoff_us(failures) // 1_000_000 for failures in (1, 2, 3, 6, 7, 8, 1000)] == [
        10, 20, 40, 320, 600, 600, 600,
    ]  # fmt: skip
    assert RetryPolicy(0, 600).backoff_us(9) == 0


def test_filter_and_ordering_are_immutable_and_the_rest_is_not():
    settings = SubscriptionSettings(filter="attributes:a")
    settings.check_alteration(SubscriptionSettings(filter="attributes:a", exactly_once=True, ack_deadline_s=60))
    with pytest.raises(ConflictError, match="filter setting"):
        settings.check_alteration(SubscriptionSettings())
    with pytest.raises(ConflictError, match="ordered setting"):
        settings.check_alteration(SubscriptionSettings(filter="attributes:a", ordered=True))


def test_subscription_expires_after_its_last_activity_or_never():
    assert SubscriptionSettings().expires_us(5) == 5 + 31 * DAY_US
    assert SubscriptionSettings(expiry_s=None).expires_us(5) is None


def test_snapshot_lives_seven_days_less_the_age_of_its_oldest_unacked_message():
    assert snapshot_expires_us(10 * DAY_US, None) == 17 * DAY_US
    assert snapshot_expires_us(10 * DAY_US, 8 * DAY_US) == 15 * DAY_US
    with pytest.raises(ConflictError, match="within the hour"):
        snapshot_expires_us(10 * DAY_US, 3 * DAY_US + 1)
