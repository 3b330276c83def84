import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.dataset import Reader, to_json
from loadgen.draws import mix
from loadgen.profiles import ads
from loadgen.report import Disorder
from streamflow.base.errors import DataError


def test_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    assert ads.events(0, 1000, seed=7).equals(ads.events(0, 1000, seed=7))
    assert not set(ads.events(0, 1000, seed=7)["user_id"]) & set(ads.events(0, 1000, seed=8)["user_id"])


def test_event_zero_of_seed_zero_never_changes() -> None:
    """Pins the generator itself: resuming a topic after an upgrade relies on it."""
    assert ads.events(0, 1).row(0, named=True) == {
        "user_id": "29ecf378-83c0-5c6b-6f07-3278a6a38fc9",
        "page_id": "fdd11a95-fa5c-eefa-e10c-08365efbb041",
        "ad_id": "cf63058b-9f8a-7e58-f523-a241dd95b34a",
        "ad_type": "banner",
        "event_type": "purchase",
        "event_time": 1704067199656584,
        "ip_address": "147.27.250.188",
    }


def test_random_numbers_are_splitmix64() -> None:
    """The first two outputs for seed 0 of the published reference implementation."""
    gamma = 0x9E3779B97F4A7C15
    states = pl.Series([gamma, 2 * gamma % (1 << 64)], dtype=pl.UInt64)

    assert mix(states).to_list() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@settings(max_examples=25, deadline=None)
@given(first=st.integers(0, 10**12), count=st.integers(1, 50), skip=st.integers(0, 49), seed=st.integers(0, 2**63))
def test_any_range_holds_the_events_of_its_numbers(first: int, count: int, skip: int, seed: int) -> None:
    skip = min(skip, count - 1)
    assert ads.events(first, count, seed)[skip:].equals(ads.events(first + skip, count - skip, seed))


@pytest.mark.parametrize("batch", [7, 250, 1000, 5000])
def test_batch_size_cuts_the_same_events_elsewhere(batch: int) -> None:
    frames = list(ads.batches(1000, 3, batch))

    assert pl.concat(frames).equals(ads.events(0, 1000, 3))
    assert all(frame.height == batch for frame in frames[:-1])


def test_reader_gives_the_asked_range_across_its_blocks() -> None:
    dataset = ads.dataset(120_000, 5)
    reader = Reader(dataset)
    parts = [reader.frame(first, min(first + 7_000, 120_000)) for first in range(0, 120_000, 7_000)]

    assert pl.concat(parts).equals(ads.events(0, 120_000, 5))


def test_events_have_seven_fields_with_ids_of_36_characters() -> None:
    frame = ads.events(0, 1000)

    assert frame.schema == ads.SCHEMA
    assert frame.null_count().sum_horizontal().item() == 0
    for name in ("user_id", "page_id", "ad_id"):
        assert frame[name].str.contains(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$").all()
    assert frame["ip_address"].str.contains(r"^\d{1,3}(\.\d{1,3}){3}$").all()


def test_json_documents_are_about_240_bytes_and_say_what_the_frame_says() -> None:
    frame = ads.events(0, 2000)
    documents = to_json(frame)

    assert [orjson.loads(document) for document in documents] == frame.to_dicts()
    assert 225 <= sum(map(len, documents)) / len(documents) <= 255


@pytest.mark.parametrize(
    ("column", "values"),
    [("event_type", ads.EVENT_TYPES), ("ad_type", ads.AD_TYPES), ("ad_id", tuple(ads.campaigns()))],
)
def test_values_are_drawn_uniformly(column: str, values: tuple[str, ...]) -> None:
    events = 200_000
    counts = ads.events(0, events)[column].value_counts()
    expected = events / len(values)
    chi_squared = (((counts["count"] - expected) ** 2) / expected).sum()
    freedom = len(values) - 1

    assert set(counts[column]) == set(values)
    assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5


def test_event_time_is_up_to_one_second_out_of_order_and_no_more() -> None:
    frame = ads.events(0, 200_000)
    disorder = Disorder()
    disorder.add(frame["event_time"])

    assert disorder.share > 0.9
    assert 0.9 * ads.DISORDER_US < disorder.latest_by_us < ads.DISORDER_US


def test_event_time_advances_at_the_event_rate() -> None:
    frame = ads.events(0, 100_001, start_us=10**15, events_per_s=10_000)
    newest = frame["event_time"].max()

    assert isinstance(newest, int)
    assert 9_900_000 <= newest - 10**15 <= 10_000_000


def test_users_are_as_many_as_asked() -> None:
    assert ads.events(0, 20_000, users=50).n_unique("user_id") == 50


def test_a_thousand_ads_belong_to_a_hundred_campaigns_ten_each() -> None:
    campaigns = pl.Series(list(ads.campaigns(9).values()))

    assert len(campaigns) == ads.ADS
    assert campaigns.value_counts()["count"].to_list() == [10] * ads.CAMPAIGNS
    assert set(ads.events(0, 50_000, 9)["ad_id"]) == set(ads.campaigns(9))


@pytest.mark.parametrize(("name", "shape"), [("events", {"count": 0}), ("users", {"users": -1})])
def test_numbers_that_make_no_sense_are_refused(name: str, shape: dict[str, int]) -> None:
    with pytest.raises(DataError, match=f"{name} must be above 0"):
        ads.dataset(**({"count": 10} | shape))


def test_data_sets_with_different_events_have_different_producers() -> None:
    producers = {
        ads.dataset(10).producer,
        ads.dataset(10, 1).producer,
        ads.dataset(10, users=5).producer,
        ads.dataset(10, start_us=1).producer,
        ads.dataset(10, events_per_s=1).producer,
    }

    assert len(producers) == 5
    assert ads.dataset(10).producer == ads.dataset(99).producer
