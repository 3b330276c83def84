"""One run from its settings to its report: opens the topics, finds where to go on, replays, ends the topics.

No options, no printing and no exit codes: those are `cli.py`.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from loadgen.dataset import Dataset, position_in_mixture
from loadgen.pacing import ConstantRate, Pace, Recorded, Unpaced, slots
from loadgen.progress import shown
from loadgen.replay import Feed, Format, replay
from loadgen.report import Report, Tally
from streamflow.base.clock import Clock
from streamflow.base.errors import ConflictError, DataError, NotFoundError
from streamflow.model.time import MAX_US
from streamflow.topics import open_log
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.topics.publisher import Publisher

BATCH_PACED = 1_000
BATCH_UNPACED: dict[Format, int] = {"json": 10_000, "envelope": 50_000}
"""Events per durable publish: small where latency counts, large where only the total time does."""


@dataclass(frozen=True)
class Settings:
    """How a data set goes to its topic, or a mixture of several to theirs.

    `to`: a folder or log URL. `partitions`: of a topic that is not there yet. `rate` (events/s) and
    `speedup` (× the data's own time) exclude each other; without both as fast as possible. `max_events`: stop
    after that many of the set. `batch`: events per durable publish at most. `end`: mark the topic as
    complete; None: if the whole set is there. DataError for values that contradict each other or make no
    sense.
    """

    to: str
    partitions: int = 16
    format: Format = "json"
    rate: float | None = None
    speedup: float | None = None
    max_events: int | None = None
    batch: int | None = None
    end: bool | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and self.speedup is not None:
            raise DataError("--rate and --speedup were both given, but only one can set the pace. Leave one out")
        for name, value in (("max", self.max_events), ("batch", self.batch), ("partitions", self.partitions)):
            if value is not None and value < 1:
                raise DataError(f"--{name} must be at least 1, not {value}. Leave it out for the default")
        if self.to.startswith("memory:"):
            raise DataError(
                f"'{self.to}' lives inside one process and would be gone when this one ends. Give a folder: --to ./data"
            )

    def pace(self, arrival_us: Sequence[int] | None) -> Pace:
        """DataError for a pace at or below 0, or a speed-up of data without a time of its own."""
        if self.rate is not None:
            return ConstantRate(self.rate)
        if self.speedup is None:
            return Unpaced()
        if arrival_us is None:
            raise DataError("--speedup needs recorded data. Give --rate instead")
        return Recorded(arrival_us, self.speedup)


def run(
    profile: str,
    datasets: Mapping[str, Dataset],
    settings: Settings,
    *,
    clock: Clock,
    stop: threading.Event,
    console: Console,
) -> Report:
    """Publish what is not there yet of the data sets (topic → set; several make a mixture), until done or `stop`
    is set.

    ConflictError if a topic has ended with events missing, has another partition count, or is being filled
    with the same data set by someone else. NotFoundError if there can be no log at `settings.to`.
    """
    arrival_us = next(iter(datasets.values())).arrival_us if len(datasets) == 1 else None
    pace = settings.pace(arrival_us)
    log = _connected(settings.to)
    try:
        with ExitStack() as stack:
            feeds = []
            for topic, dataset in datasets.items():
                log.create_topic(topic, TopicConfig(partitions=settings.partitions))
                publisher = Publisher(log, topic, name=dataset.producer, clock=clock)
                feeds.append(Feed.resumed(dataset, stack.enter_context(publisher)))
            return _Run(profile, feeds, settings, arrival_us, pace, log, clock, stop, console).report()
    finally:
        log.close()


def _connected(to: str) -> Log:
    try:
        return open_log(to)
    except (OSError, sqlite3.Error) as error:
        raise NotFoundError(f"'{to}' can't be used as a log: {error}. Give a folder that you may write to") from error


@dataclass(frozen=True)
class _Run:
    profile: str
    feeds: Sequence[Feed]
    settings: Settings
    arrival_us: Sequence[int] | None
    pace: Pace
    log: Log
    clock: Clock
    stop: threading.Event
    console: Console

    @property
    def events(self) -> int:
        return sum(feed.dataset.events for feed in self.feeds)

    def report(self) -> Report:
        first = position_in_mixture([feed.dataset for feed in self.feeds], [feed.done for feed in self.feeds])
        target = min(self.events, self.settings.max_events or self.events)
        self._check_open(target)
        tally = Tally(position=first)
        start_s = self.clock.monotonic_s()
        self._replay(tally, target)
        seconds = self.clock.monotonic_s() - start_s
        interrupted = tally.position < target
        if not interrupted and self._is_to_end(tally.position):
            for feed in self.feeds:
                feed.publisher.end()
        return self._told(tally, first, seconds, interrupted)

    def _replay(self, tally: Tally, target: int) -> None:
        paced = not isinstance(self.pace, Unpaced)
        batch = self.settings.batch or (BATCH_PACED if paced else BATCH_UNPACED[self.settings.format])
        with shown(self.console, target, tally.position, self.clock) as show:
            replay(
                self.feeds,
                slots(self.pace, tally.position, target, batch),
                tally,
                format=self.settings.format,
                clock=self.clock,
                wait=self.stop.wait,
                on_batch=show,
            )

    def _ended(self, feed: Feed) -> bool:
        return self.log.topic(feed.publisher.topic).watermark_us >= MAX_US

    def _check_open(self, target: int) -> None:
        for feed in self.feeds:
            missing = feed.dataset.before(target) - feed.done
            if missing > 0 and self._ended(feed):
                raise ConflictError(
                    f"topic '{feed.publisher.topic}' has ended, and {missing:,} events are not in it: "
                    "published now, all of them would be late. Give another --topic or --to, or --no-end the first time"
                )

    def _is_to_end(self, position: int) -> bool:
        whole = position >= self.events
        return whole if self.settings.end is None else self.settings.end

    def _told(self, tally: Tally, first: int, seconds: float, interrupted: bool) -> Report:
        settings = self.settings
        return Report(
            profile=self.profile,
            topic=", ".join(feed.publisher.topic for feed in self.feeds),
            format=settings.format,
            partitions=settings.partitions,
            events=tally.events,
            skipped_events=sum(feed.done for feed in self.feeds),
            bytes=tally.bytes,
            seconds=round(seconds, 6),
            events_per_s=round(tally.events / seconds, 3) if seconds > 0 else 0.0,
            events_per_s_target=settings.rate,
            speedup=self._speedup(first, tally.position, seconds),
            speedup_target=settings.speedup,
            behind_s_max=None if isinstance(self.pace, Unpaced) else round(tally.behind_s_max, 6),
            publish_ms_p50=tally.publish_ms(0.5),
            publish_ms_p99=tally.publish_ms(0.99),
            out_of_order_share=round(tally.out_of_order_share, 6),
            latest_by_s=tally.latest_by_us / 1e6,
            ended=all(map(self._ended, self.feeds)),
            interrupted=interrupted,
        )

    def _speedup(self, first: int, position: int, seconds: float) -> float | None:
        arrival_us = self.arrival_us
        if arrival_us is None or position == first or seconds <= 0:
            return None
        return round((arrival_us[position - 1] - arrival_us[first]) / 1e6 / seconds, 3)
