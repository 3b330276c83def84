"""What a run did: measured while it goes (`Tally`), told at its end (`Report`). No I/O, no clock."""

from array import array
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import polars as pl


@dataclass
class Disorder:
    """How far events are behind the latest event time seen before them."""

    events: int = 0
    out_of_order: int = 0
    latest_by_us: int = 0
    _newest_us: int | None = None

    def add(self, times_us: pl.Series) -> None:
        """Count one batch, in publishing order. Int64 µs, no nulls."""
        if times_us.is_empty():
            return
        before = times_us.head(1) if self._newest_us is None else pl.Series([self._newest_us], dtype=pl.Int64)
        known = before.append(times_us)
        newest = known.cum_max()
        behind = newest - known
        self.events += len(times_us)
        self.out_of_order += int((behind > 0).sum())
        self.latest_by_us = max(self.latest_by_us, cast(int, behind.max()))
        self._newest_us = newest[-1]

    @property
    def share(self) -> float:
        return self.out_of_order / self.events if self.events else 0.0


@dataclass
class Tally:
    """Running figures of one run. `position`: number of the next event; `publish_s`: one entry per batch;
    `disorder`: topic by topic, as their readers meet it."""

    position: int
    events: int = 0
    bytes: int = 0
    behind_s_max: float = 0.0
    disorder: defaultdict[str, Disorder] = field(default_factory=lambda: defaultdict(Disorder))
    publish_s: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def out_of_order_share(self) -> float:
        return sum(each.out_of_order for each in self.disorder.values()) / self.events if self.events else 0.0

    @property
    def latest_by_us(self) -> int:
        return max((each.latest_by_us for each in self.disorder.values()), default=0)

    def publish_ms(self, quantile: float) -> float | None:
        """Durable publishing time of a batch, nearest rank; None before the first."""
        if not self.publish_s:
            return None
        ranked = sorted(self.publish_s)
        return ranked[min(len(ranked) - 1, int(quantile * len(ranked)))] * 1e3


@dataclass(frozen=True)
class Report:
    """The end report; `--json` prints exactly these fields.

    `topic`: several are separated by commas, and have `partitions` each.
    `events` and `bytes` were published by this run, `skipped_events` by earlier ones. `bytes`: the JSON
    documents, or the frames' size in memory for envelopes, both before compression. `out_of_order_share` and
    `latest_by_s` are over the events of this run. `behind_s_max`: how late a batch was at worst against its
    schedule, None without one. `ended`: the topic is marked as complete. `interrupted`: the run was asked to
    stop before its last event.
    """

    profile: str
    topic: str
    format: str
    partitions: int
    events: int
    skipped_events: int
    bytes: int
    seconds: float
    events_per_s: float
    events_per_s_target: float | None
    speedup: float | None
    speedup_target: float | None
    behind_s_max: float | None
    publish_ms_p50: float | None
    publish_ms_p99: float | None
    out_of_order_share: float
    latest_by_s: float
    ended: bool
    interrupted: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: one fact per line."""
        facts = [
            ("published", f"{self.events:,} events, {self.bytes / 1e6:,.1f} MB ({self.format})"),
            ("already there", f"{self.skipped_events:,} events, skipped" if self.skipped_events else ""),
            ("time", f"{self.seconds:,.2f} s"),
            ("rate", f"{self.events_per_s:,.0f} events/s{self._rate_target()}"),
            ("speed", self._speed()),
            ("behind schedule", _behind(self.behind_s_max)),
            ("publish", self._publish()),
            ("out of order", f"{self.out_of_order_share:.1%} of events" if self.events else ""),
            ("latest by", _span(self.latest_by_s) if self.out_of_order_share else ""),
            ("topic", f"'{self.topic}', {self.partitions} partitions, {'ended' if self.ended else 'open'}"),
        ]
        return [f"{name:<16}{fact}" for name, fact in facts if fact]

    def _rate_target(self) -> str:
        target = self.events_per_s_target
        return "" if target is None else f" (target {target:,.0f})"

    def _speed(self) -> str:
        if self.speedup_target is None or self.speedup is None:
            return ""
        return f"{self.speedup:,.0f} × real time (target {self.speedup_target:,.0f})"

    def _publish(self) -> str:
        if self.publish_ms_p50 is None:
            return ""
        return f"{self.publish_ms_p50:,.2f} ms median, {self.publish_ms_p99:,.2f} ms p99 per batch"


def _behind(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.3f} s at most"


def _span(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:,.3f} s"
