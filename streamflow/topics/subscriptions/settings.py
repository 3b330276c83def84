"""What can be set on a subscription, its bounds, and what follows from them by arithmetic alone. No state.

The bounds are Pub/Sub's. Durations are seconds here, as users give them; moments are microseconds UTC.
"""

from dataclasses import dataclass

from streamflow.base.errors import ConflictError, DataError
from streamflow.topics.subscriptions.filter import parse
from streamflow.topics.subscriptions.push import PushConfig

DAY_S = 24 * 3600
ACK_DEADLINE_MIN_S = 10
ACK_DEADLINE_MAX_S = 600
SNAPSHOT_LIFETIME_S = 7 * DAY_S
SNAPSHOT_LIFETIME_MIN_S = 3600
OUTSTANDING_MESSAGES_MAX = 1_000_000
"""Leases of one partition by default: bounds the machine's state, which is written with each commit."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """After the n-th failure (a nack or an expired lease) a message rests min · 2^(n-1) seconds, at most max."""

    backoff_min_s: float = 10
    backoff_max_s: float = 600

    def __post_init__(self) -> None:
        _check("backoff_min_s", self.backoff_min_s, 0, 600)
        _check("backoff_max_s", self.backoff_max_s, 0, 600)
        if self.backoff_min_s > self.backoff_max_s:
            raise DataError(
                f"backoff_min_s is {self.backoff_min_s}, above backoff_max_s, {self.backoff_max_s}. Exchange them"
            )

    def backoff_us(self, failures: int) -> int:
        """Of a message that has failed so often, 1 or more."""
        factor = float(1 << min(failures - 1, 40))
        return round(min(self.backoff_min_s * factor, self.backoff_max_s) * 1e6)


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """A message that has failed `attempts_max` times goes to `topic` and counts as acked here."""

    topic: str
    attempts_max: int = 5

    def __post_init__(self) -> None:
        _check("attempts_max", self.attempts_max, 5, 100)


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Of one subscription; DataError or FilterError for what Pub/Sub would refuse.

    - `ack_deadline_s`: 10–600, how long a lease lasts unless it is modified
    - `exactly_once`: only the newest ack id counts, nothing is delivered again while it is leased or after it is acked
    - `ordered`: messages with the same ordering key come in order; immutable
    - `retry`: None: at once
    - `filter`: None: every message; immutable
    - `retention_s`: 10 min – 31 days: older messages leave the backlog, acked or not
    - `retain_acked`: acked messages are kept for `retention_s` too, for seeks
    - `expiry_s`: 1 day or more without activity until the subscription is deleted; None: never
    - `push`: where its messages are sent (`Client.push`); None: they are only pulled
    - `outstanding_messages_max`, `outstanding_bytes_max`: of all leases of one partition; None: no bound on bytes
    """

    ack_deadline_s: float = ACK_DEADLINE_MIN_S
    exactly_once: bool = False
    ordered: bool = False
    retry: RetryPolicy | None = None
    dead_letter: DeadLetterPolicy | None = None
    filter: str | None = None
    retention_s: float = 7 * DAY_S
    retain_acked: bool = False
    expiry_s: float | None = 31 * DAY_S
    outstanding_messages_max: int = OUTSTANDING_MESSAGES_MAX
    outstanding_bytes_max: int | None = None
    push: PushConfig | None = None

    def __post_init__(self) -> None:
        _check("ack_deadline_s", self.ack_deadline_s, ACK_DEADLINE_MIN_S, ACK_DEADLINE_MAX_S)
        _check("retention_s", self.retention_s, 600, 31 * DAY_S)
        _check("outstanding_messages_max", self.outstanding_messages_max, 1, 1 << 31)
        if self.outstanding_bytes_max is not None:
            _check("outstanding_bytes_max", self.outstanding_bytes_max, 1, 1 << 62)
        if self.expiry_s is not None:
            _check("expiry_s", self.expiry_s, DAY_S, 10_000 * DAY_S, "None for never, or ")
        if self.filter is not None:
            parse(self.filter)

    def check_alteration(self, wanted: "SubscriptionSettings") -> None:
        """ConflictError if `wanted` changes what is immutable."""
        for name in ("filter", "ordered"):
            before, after = getattr(self, name), getattr(wanted, name)
            if before != after:
                raise ConflictError(
                    f"the {name} setting of a subscription can't change, from {before!r} to {after!r}: what is already "
                    "acked was decided by it. Make another subscription"
                )

    def expires_us(self, active_us: int) -> int | None:
        """When it is deleted, if `active_us` stays its last activity (a pull, an ack, a change); None: never."""
        return None if self.expiry_s is None else active_us + round(self.expiry_s * 1e6)


def snapshot_expires_us(now_us: int, oldest_unacked_us: int | None) -> int:
    """When a snapshot made now is deleted: 7 days after the publication of its oldest unacked message (None: it has
    none), since what it needs must still be there. ConflictError if that is within the hour, as in Pub/Sub."""
    oldest = now_us if oldest_unacked_us is None else min(oldest_unacked_us, now_us)
    expires = oldest + SNAPSHOT_LIFETIME_S * 1_000_000
    if expires - now_us < SNAPSHOT_LIFETIME_MIN_S * 1_000_000:
        raise ConflictError(
            "the oldest unacked message is almost 7 days old, so the snapshot would expire within the hour. "
            "Ack the oldest messages, or seek past them first"
        )
    return expires


def check_ack_deadline(seconds: float) -> None:
    """Of a modification: DataError beyond 0 (a nack) to 600 s."""
    _check("ack deadline", seconds, 0, ACK_DEADLINE_MAX_S)


def check_lease(seconds: float) -> None:
    """Of a pull that says how long its messages are leased: DataError beyond what `ack_deadline_s` may be."""
    _check("ack deadline", seconds, ACK_DEADLINE_MIN_S, ACK_DEADLINE_MAX_S)


def _check(name: str, value: float, low: float, high: float, also: str = "") -> None:
    if not low <= value <= high:
        raise DataError(f"{name} is {value}, out of bounds. Give {also}{low} to {high}")
