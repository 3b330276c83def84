import subprocess
import sys
from pathlib import Path

import orjson
import polars as pl
import pytest

from loadgen.dataset import Dataset, times_us, to_json
from loadgen.profiles import flights
from loadgen.report import Disorder
from streamflow.base.errors import CorruptionError, NotFoundError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return flights.dataset()


@pytest.fixture(scope="module")
def everything(dataset: Dataset) -> pl.DataFrame:
    return dataset.read(0, dataset.events)


def one_flight(**fields: object) -> pl.DataFrame:
    scheduled = {"year": 2013, "month": 12, "day": 31, "sched_dep_time": 2330}
    delays = {"dep_delay": 5, "air_time": 40}
    return pl.DataFrame([scheduled | delays | fields], infer_schema_length=None)


def test_all_flights_are_there(dataset: Dataset, everything: pl.DataFrame) -> None:
    assert dataset.events == everything.height == flights.FLIGHTS
    assert everything.width == 20


def test_ninety_percent_are_out_of_order_by_up_to_665_minutes(dataset: Dataset, everything: pl.DataFrame) -> None:
    disorder = Disorder()
    disorder.add(times_us(everything, dataset.time))

    assert disorder.share == pytest.approx(0.90, abs=0.005)
    assert disorder.latest_by_us == 665 * 60 * 1_000_000


def test_flights_that_never_departed_carry_their_scheduled_time(everything: pl.DataFrame) -> None:
    grounded = everything.filter(pl.col("dep_delay").is_null())
    clock = pl.col("sched_dep_time")

    assert grounded.height == 8_255
    assert grounded.select(
        ((pl.col("departure").dt.hour().cast(pl.Int64) * 100 + pl.col("departure").dt.minute()) == clock).all()
    ).item()


def test_arrivals_ascend_and_ties_keep_the_order_of_the_file(dataset: Dataset, everything: pl.DataFrame) -> None:
    assert dataset.arrival_us is not None
    arrivals = pl.Series(dataset.arrival_us)
    in_file = flights.read_csv(flights.archive_path()).with_row_index("row")
    rows = flights.in_landing_order(in_file)[0]["row"]
    tied = arrivals == arrivals.shift(1)

    assert arrivals.is_sorted()
    assert tied.sum() > 1000
    assert (rows.cast(pl.Int64).diff().filter(tied) > 0).all()


def test_departure_is_schedule_plus_delay_across_midnight_and_new_year() -> None:
    frame, landing_us = flights.in_landing_order(one_flight(dep_delay=45))

    assert to_json(frame.select("departure")) == [b'{"departure":"2014-01-01T00:15:00Z"}']
    assert landing_us.to_list() == [1_388_537_700_000_000]  # 00:55


def test_an_early_departure_is_before_the_schedule() -> None:
    frame, _ = flights.in_landing_order(one_flight(dep_delay=-10))

    assert to_json(frame.select("departure")) == [b'{"departure":"2013-12-31T23:20:00Z"}']


@pytest.mark.parametrize("delay", [5, None])
def test_a_flight_without_air_time_is_known_at_its_departure(delay: int | None) -> None:
    flight = one_flight(dep_delay=delay, air_time=None).cast({"dep_delay": pl.Int64, "air_time": pl.Int64})
    frame, landing_us = flights.in_landing_order(flight)

    assert landing_us.to_list() == times_us(frame, "departure").to_list()


def test_json_has_all_fields_with_nulls_as_null(everything: pl.DataFrame) -> None:
    grounded = everything.filter(pl.col("dep_delay").is_null()).head(1)
    event = orjson.loads(to_json(grounded)[0])

    assert list(event) == everything.columns
    assert [name for name, value in event.items() if value is None] == [
        "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time",
    ]  # fmt: skip
    assert event["departure"].endswith("Z")


def test_the_package_is_read_without_being_imported() -> None:
    code = "import sys; from loadgen.profiles import flights as f; f.dataset(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "PACKAGE", "nycflights99")
    with pytest.raises(NotFoundError, match=r"'nycflights99'.*pip install \"streamflow\[demo\]\""):
        flights.archive_path()


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv.zip"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(CorruptionError, match=r"flights\.csv\.zip' can't be read"):
        flights.read_csv(path)
