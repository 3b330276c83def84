from collections.abc import Callable, Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dataset import Dataset, to_json
from loadgen.pacing import ConstantRate, Pace, Unpaced, slots
from loadgen.profiles import ads
from loadgen.replay import Feed, Format, position_of, replay, sequence_of
from loadgen.report import Tally
from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError
from streamflow.topics import open_log
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.topics.publisher import Publisher

Frames = Callable[[Log, str], list[pl.DataFrame]]


@pytest.fixture
def log() -> Iterator[Log]:
    log = open_log("memory://")
    log.create_topic("ads", TopicConfig(partitions=16))
    yield log
    log.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Waits:
    """Lets manual time pass as asked; asks the run to stop at call number `stop_at`."""

    def __init__(self, clock: ManualClock, stop_at: int = -1) -> None:
        self.seconds: list[float] = []
        self._clock = clock
        self._stop_at = stop_at

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        self._clock.advance(seconds)
        return len(self.seconds) == self._stop_at


def publish(
    log: Log,
    dataset: Dataset,
    clock: ManualClock,
    *,
    end: int | None = None,
    batch: int = 100,
    pace: Pace | None = None,
    format: Format = "json",
    wait: Callable[[float], bool] = lambda _: False,
    on_batch: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    with Publisher(log, "ads", name=dataset.producer) as publisher:
        feed = Feed.resumed(dataset, publisher)
        tally = Tally(position=feed.done)
        schedule = slots(pace or Unpaced(), feed.done, dataset.events if end is None else end, batch)
        replay([feed], schedule, tally, format=format, clock=clock, wait=wait, on_batch=on_batch)
    return tally


def documents(log: Log, frames: Frames) -> list[bytes]:
    return sorted(document for frame in frames(log, "ads") for document in frame["_json"])


def test_json_events_arrive_as_made_with_their_event_time(log: Log, clock: ManualClock, frames: Frames) -> None:
    publish(log, ads.dataset(1_050), clock)
    events = ads.events(0, 1_050)
    expected = sorted(zip(to_json(events), events["event_time"], strict=True))
    found = pl.concat(frames(log, "ads"))

    assert sorted(zip(found["_json"], found["_time"], strict=True)) == expected


def test_envelopes_arrive_as_made_with_their_event_time(log: Log, clock: ManualClock, frames: Frames) -> None:
    publish(log, ads.dataset(1_050), clock, format="envelope")
    found = pl.concat(frames(log, "ads"))

    assert found["_time"].equals(found["event_time"].rename("_time"))
    assert found.drop("_time").sort("user_id").equals(ads.events(0, 1_050).sort("user_id"))


def test_batches_of_a_round_size_reach_every_partition(log: Log, clock: ManualClock) -> None:
    publish(log, ads.dataset(3_200), clock, batch=100)

    assert [log.end("ads", partition) for partition in range(16)] == [200] * 16


@given(steps=st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_sequences_rise_with_the_position_and_tell_it(steps: list[tuple[int, int]]) -> None:
    positions = [sum(step for step, _ in steps[: n + 1]) for n in range(len(steps))]
    sequences = [sequence_of(position, turn) for position, (_, turn) in zip(positions, steps, strict=True)]

    assert sequences == sorted(set(sequences))
    assert [position_of(sequence) for sequence in sequences] == positions
    assert position_of(-1) == 0


def test_a_run_resumed_with_another_batch_size_loses_and_doubles_nothing(
    log: Log, clock: ManualClock, frames: Frames
) -> None:
    dataset = ads.dataset(1_000)
    for end, batch in ((130, 50), (131, 7), (700, 333), (1_000, 64)):
        publish(log, dataset, clock, end=end, batch=batch)

    assert documents(log, frames) == sorted(to_json(ads.events(0, 1_000)))


def test_a_set_made_longer_later_is_continued(log: Log, clock: ManualClock, frames: Frames) -> None:
    publish(log, ads.dataset(400), clock)
    tally = publish(log, ads.dataset(1_000), clock)

    assert tally.events == 600
    assert documents(log, frames) == sorted(to_json(ads.events(0, 1_000)))


def test_batches_are_published_when_they_are_due(log: Log, clock: ManualClock) -> None:
    waits = Waits(clock)
    tally = publish(log, ads.dataset(300), clock, pace=ConstantRate(2_000), wait=waits)

    assert waits.seconds == pytest.approx([0.0495, 0.05, 0.05], abs=1e-5)
    assert tally.behind_s_max == pytest.approx(0, abs=1e-5)


def test_a_slow_topic_shows_as_lateness_and_is_caught_up_without_waiting(log: Log, clock: ManualClock) -> None:
    """Open loop: a stall of 1 s must not push the schedule back by 1 s."""
    waits = Waits(clock)
    stalled: list[int] = []

    def stall_once(tally: Tally) -> None:
        if not stalled:
            stalled.append(tally.position)
            clock.advance(1.0)

    dataset = ads.dataset(3_000)
    tally = publish(log, dataset, clock, pace=ConstantRate(1_000), wait=waits, on_batch=stall_once)

    assert tally.behind_s_max == pytest.approx(0.9, abs=1e-3)
    assert sum(seconds < 1e-6 for seconds in waits.seconds) == 10
    assert clock.monotonic_s() == pytest.approx(2.999, abs=1e-3)


def test_a_stop_ends_the_run_after_a_whole_batch(log: Log, clock: ManualClock) -> None:
    tally = publish(log, ads.dataset(1_000), clock, wait=Waits(clock, stop_at=4))

    assert (tally.position, tally.events, len(tally.publish_s)) == (300, 300, 3)
    assert sum(log.end("ads", partition) for partition in range(16)) == 300


def test_two_runs_of_one_set_at_once_are_refused_instead_of_losing_events(log: Log, clock: ManualClock) -> None:
    dataset = ads.dataset(500)
    intruders: list[Tally] = []

    def intrude(_: Tally) -> None:
        if not intruders:
            intruders.append(Tally(0))
            publish(log, dataset, clock)

    with pytest.raises(ConflictError, match="by someone else meanwhile"):
        publish(log, dataset, clock, on_batch=intrude)
