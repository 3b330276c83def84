from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.dataset import Dataset, position_in_mixture, times_us, to_json
from loadgen.pacing import Unpaced, slots
from loadgen.profiles import nexmark
from loadgen.profiles.nexmark import EPOCH, FIRST_ID, Shape
from loadgen.replay import Feed, replay
from loadgen.report import Disorder, Tally
from streamflow.base.clock import ManualClock
from streamflow.base.errors import DataError
from streamflow.topics import open_log
from streamflow.topics.protocol import Log, Producer, Record, TopicConfig
from streamflow.topics.publisher import Publisher

KINDS = {"person": nexmark.persons, "auction": nexmark.auctions, "bid": nexmark.bids}
Frames = Callable[[Log, str], list[pl.DataFrame]]


def everything(datasets: Mapping[str, Dataset]) -> dict[str, pl.DataFrame]:
    return {topic: dataset.read(0, dataset.events) for topic, dataset in datasets.items()}


def in_publishing_order(events: int, shape: Shape) -> pl.Series:
    """The times of all events by event number."""
    return shape.times_us(pl.int_range(events, dtype=pl.UInt64, eager=True))


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_events_and_another_seed_others(kind: str) -> None:
    make = KINDS[kind]
    frame, other = make(0, 500, Shape(7)), make(0, 500, Shape(8))

    assert frame.equals(make(0, 500, Shape(7)))
    assert (frame["extra"] == other["extra"]).mean() < 0.01


def test_the_first_events_of_seed_zero_never_change() -> None:
    """Pins the generator itself: resuming a topic after an upgrade relies on it."""
    begin = "2024-01-01T00:00:00"
    person, auction, bid = (orjson.loads(to_json(make(0, 1, Shape()))[0]) for make in KINDS.values())

    assert person | {"extra": person["extra"][:9]} == {
        "id": 1000, "name": "Julie Abrams", "email_address": "blskrj@iksg.com", "credit_card": "5651 9440 1600 6683",
        "city": "Seattle", "state": "AZ", "date_time": f"{begin}Z", "extra": "mcdbujfsk",
    }  # fmt: skip
    assert auction | {"extra": auction["extra"][:9]} == {
        "id": 1000, "item_name": "cnvsqiqqrgwpqptcwzi", "description": "yxdy", "initial_bid": 82388281,
        "reserve": 95500276, "date_time": f"{begin}.000100Z", "expires": f"{begin}.305069Z", "seller": 1000,
        "category": 10, "extra": "mrmcmswdn",
    }  # fmt: skip
    assert bid | {"extra": bid["extra"][:9]} == {
        "auction": 1009, "bidder": 1008, "price": 1625069, "date_time": f"{begin}.000400Z", "extra": "rcjvdfsgh",
    }  # fmt: skip


@settings(max_examples=25)
@given(
    first=st.integers(0, 10**10), count=st.integers(1, 50), skip=st.integers(0, 49), seed=st.integers(0, 2**40),
    out_of_order=st.sampled_from([1, 2, 1000]), kind=st.sampled_from(list(KINDS)),
)  # fmt: skip
def test_any_range_holds_the_events_of_its_numbers(
    first: int, count: int, skip: int, seed: int, out_of_order: int, kind: str
) -> None:
    skip = min(skip, count - 1)
    make, shape = KINDS[kind], Shape(seed, out_of_order=out_of_order)

    assert make(first, count, shape)[skip:].equals(make(first + skip, count - skip, shape))


@given(events=st.integers(1, 10**12))
def test_persons_auctions_and_bids_are_1_to_3_to_46_at_any_moment(events: int) -> None:
    datasets = nexmark.datasets(events, Shape())
    counts = [dataset.events for dataset in datasets.values()]

    assert list(datasets) == ["person", "auction", "bid"]
    assert sum(counts) == events
    for count, proportion in zip(counts, (1, 3, 46), strict=True):
        assert 0 <= count - events // EPOCH * proportion <= proportion


def test_every_event_of_a_mixture_has_a_moment_of_its_own() -> None:
    frames = everything(nexmark.datasets(5_003, Shape()))
    times = pl.concat(times_us(frame, "date_time") for frame in frames.values())

    assert times.sort().equals(in_publishing_order(5_003, Shape()), check_names=False)


def test_ids_rise_one_by_one() -> None:
    for kind in ("person", "auction"):
        assert KINDS[kind](4_000, 300, Shape())["id"].to_list() == list(range(FIRST_ID + 4_000, FIRST_ID + 4_300))


FAR = 200_000
"""Events of each kind before those looked at: long after the beginning, where few are there to choose from."""


@pytest.mark.parametrize(
    ("kind", "field", "rest", "hot_share", "newest", "choices"),
    [
        ("bid", "auction", 0, 1 / 2, lambda k: k // 46 * 3 + 2, 111),
        ("bid", "bidder", 1, 3 / 4, lambda k: k // 46, 1010),
        ("auction", "seller", 0, 3 / 4, lambda k: k // 3, 1010),
    ],
)
def test_hot_ones_have_their_share_and_the_others_are_drawn_from_those_around(
    kind: str, field: str, rest: int, hot_share: float, newest: Callable[[pl.Series], pl.Series], choices: int
) -> None:
    count = 100_000
    chosen = KINDS[kind](FAR, count, Shape())[field] - FIRST_ID
    there = newest(pl.int_range(FAR, FAR + count, eager=True))
    is_hot = chosen == there // 100 * 100 + rest
    share = hot_share + (1 - hot_share) / choices
    ahead = (chosen - there).filter(~is_hot)

    assert is_hot.mean() == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)
    assert (ahead.min(), ahead.max()) == (10 - choices + 1, 10)
    assert ahead.n_unique() == choices


def test_at_the_beginning_only_what_is_there_and_a_few_more_is_drawn() -> None:
    bids = nexmark.bids(0, 46, Shape())

    assert set(bids["auction"]) <= set(range(FIRST_ID, FIRST_ID + 3 + 10))
    assert set(bids["bidder"]) <= set(range(FIRST_ID, FIRST_ID + 1 + 10))


@pytest.mark.parametrize("out_of_order", [1, 100, 1_000])
def test_times_are_shuffled_within_groups_and_so_never_further_than_the_bound(out_of_order: int) -> None:
    shape = Shape(events_per_s=10_000, out_of_order=out_of_order)
    times = in_publishing_order(14_000, shape)
    disorder = Disorder()
    disorder.add(times)

    assert disorder.latest_by_us <= shape.disorder_us == (out_of_order - 1) * 100
    assert disorder.latest_by_us >= 0.9 * shape.disorder_us
    assert (disorder.share > 0.4) == (out_of_order > 1)
    assert times.sort().equals(in_publishing_order(14_000, Shape(events_per_s=10_000)), check_names=False)


def test_auctions_last_on_average_until_a_hundred_more_have_begun() -> None:
    frame = nexmark.auctions(0, 50_000, Shape(events_per_s=1_000))
    lasts_s = (frame["expires"] - frame["date_time"]).dt.total_microseconds() / 1e6
    mean = lasts_s.mean()

    assert isinstance(mean, float)
    assert mean == pytest.approx(1.667, rel=0.02)
    assert 0 < lasts_s.min() < lasts_s.max() < 2 * 1.668  # type: ignore[operator]


def test_prices_are_spread_evenly_over_six_powers_of_ten() -> None:
    price = nexmark.bids(0, 60_000, Shape())["price"]

    assert price.min() >= 100  # type: ignore[operator]
    assert price.max() <= 100_000_000  # type: ignore[operator]
    for power in range(2, 8):
        assert price.is_between(10**power, 10 ** (power + 1), closed="left").mean() == pytest.approx(1 / 6, abs=0.01)


def test_categories_states_and_cities_are_all_drawn_alike() -> None:
    person, auction = nexmark.persons(0, 30_000, Shape()), nexmark.auctions(0, 30_000, Shape())
    for column, values in (
        (auction["category"], range(10, 15)), (person["state"], nexmark.STATES), (person["city"], nexmark.CITIES),
    ):  # fmt: skip
        counts = column.value_counts()["count"]
        assert set(column) == set(values)
        assert counts.min() > 0.9 * counts.max()  # type: ignore[operator]


@pytest.mark.parametrize(("kind", "size"), [("person", 200), ("auction", 500), ("bid", 100)])
def test_events_have_their_published_average_size(kind: str, size: int) -> None:
    frame = KINDS[kind](0, 20_000, Shape())
    texts = frame.select(pl.col(pl.String).str.len_bytes().cast(pl.Int64).mean()).sum_horizontal().item()
    numbers = 8 * sum(dtype == pl.Int64 or dtype == pl.Datetime for dtype in frame.dtypes)

    assert texts + numbers == pytest.approx(size, rel=0.06)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("events must be above 0, not 0", lambda: nexmark.datasets(0, Shape())),
        ("event rate must be above 0, not 0", lambda: Shape(events_per_s=0)),
        ("out-of-order group must be above 0, not -1", lambda: Shape(out_of_order=-1)),
    ],
)
def test_numbers_that_make_no_sense_are_refused(message: str, make: Callable[[], object]) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_data_sets_with_different_events_have_different_producers() -> None:
    shapes = (Shape(), Shape(1), Shape(start_us=1), Shape(events_per_s=1), Shape(out_of_order=2))

    assert len({nexmark.datasets(100, shape)["bid"].producer for shape in shapes}) == 5


@given(events=st.integers(1, 300), ahead=st.tuples(*[st.integers(0, 60)] * 3), position=st.integers(0, 300))
def test_a_mixture_goes_on_where_the_first_event_is_missing(
    events: int, ahead: tuple[int, int, int], position: int
) -> None:
    sets = list(nexmark.datasets(events, Shape()).values())
    reached = [min(events, position + more) for more in ahead]
    done = [dataset.before(number) for dataset, number in zip(sets, reached, strict=True)]
    missing = [
        n
        for n in range(events)
        if any(d.before(n) == of_set < d.before(n + 1) for d, of_set in zip(sets, done, strict=True))
    ]

    assert position_in_mixture(sets, done) == min(missing, default=events)


class Killed(BaseException): ...


class DyingLog:
    """Passes everything on, but dies instead of publishing for the nth time."""

    def __init__(self, log: Log, publishes: int) -> None:
        self._log, self._left = log, publishes

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> object:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return self._log.publish(records, producer)


def publish(log: object, datasets: Mapping[str, Dataset], batch: int) -> Tally:
    feeds = [Feed.resumed(d, Publisher(log, topic, name=d.producer)) for topic, d in datasets.items()]  # type: ignore[arg-type]
    tally = Tally(position_in_mixture(datasets.values(), [feed.done for feed in feeds]))
    schedule = slots(Unpaced(), tally.position, sum(d.events for d in datasets.values()), batch)
    replay(feeds, schedule, tally, format="json", clock=ManualClock(), wait=lambda _: False)
    return tally


def test_a_run_killed_between_any_two_publishes_leaves_each_event_in_its_topic_once(frames: Frames) -> None:
    datasets = nexmark.datasets(730, Shape(3))
    log = open_log("memory://")
    for topic in datasets:
        log.create_topic(topic, TopicConfig(partitions=4))
    for publishes, batch in ((1, 60), (2, 60), (3, 7), (4, 100), (5, 33), (0, 9)):
        with pytest.raises(Killed):
            publish(DyingLog(log, publishes), datasets, batch)
    there = sum(len(frame) for topic in datasets for frame in frames(log, topic))
    tally = publish(log, datasets, 64)

    assert 0 < there == 730 - tally.events
    assert tally.position == 730
    for topic, frame in everything(datasets).items():
        found = sorted(document for read in frames(log, topic) for document in read["_json"])
        assert found == sorted(to_json(frame))


def test_a_mixture_made_shorter_after_a_kill_publishes_what_is_missing_of_it(frames: Frames) -> None:
    log = open_log("memory://")
    for topic in KINDS:
        log.create_topic(topic, TopicConfig(partitions=2))
    with pytest.raises(Killed):
        publish(DyingLog(log, 2), nexmark.datasets(900, Shape()), 900)

    def refusing(dataset: Dataset) -> Dataset:
        def read(first: int, count: int) -> pl.DataFrame:
            assert count >= 0
            return dataset.read(first, count)

        return replace(dataset, read=read)

    shorter = {topic: refusing(dataset) for topic, dataset in nexmark.datasets(100, Shape()).items()}
    tally = publish(log, shorter, 30)

    assert (tally.events, tally.position) == (92, 100)
    assert [sum(map(len, frames(log, topic))) for topic in KINDS] == [18, 54, 92]


def test_the_command_fills_and_ends_three_topics_once(
    tmp_path: Path, finish: Callable[..., tuple[int, str, str]]
) -> None:
    command = ("nexmark", "--to", tmp_path, "--events", 5_000, "--out-of-order", 50, "--json", "--partitions", 2)
    part, whole, again = (
        orjson.loads(finish(*command, *more)[1]) for more in (("--batch", 700, "--max", 1_234), ("--batch", 9_999), ())
    )
    log = open_log(tmp_path)
    sizes = {info.name: sum(log.end(info.name, p) for p in range(2)) for info in log.topics()}
    log.close()

    assert (part["events"], part["ended"]) == (1_234, False)
    assert (whole["skipped_events"], whole["events"], whole["ended"]) == (1_234, 3_766, True)
    assert (again["skipped_events"], again["events"]) == (5_000, 0)
    assert whole["topic"] == "person, auction, bid"
    assert whole["latest_by_s"] <= 0.0049
    assert sizes == {"person": 100, "auction": 300, "bid": 4_600}
