"""The right answers, by two batch engines that share no code: DuckDB gives them, Polars cross-checks.

W1: views per campaign and 10 s window, as columns campaign_id (String), window_start_us (Int64), views (Int64),
sorted by the first two. Windows are `[start, end)` with `start = t - floormod(t, size)`.
"""

from pathlib import Path

import duckdb
import polars as pl

from loadgen.bench.inputs import WINDOW_US, Inputs
from loadgen.profiles import ads
from streamflow.base.errors import CorruptionError

_W1 = """
    SELECT campaign_id,
           event_time - ((event_time % $window) + $window) % $window AS window_start_us,
           count(*)::BIGINT AS views
    FROM {events} JOIN read_parquet($campaigns) USING (ad_id)
    WHERE event_type = 'view'
    GROUP BY ALL ORDER BY ALL
"""
_JSON = """read_json($events, format = 'newline_delimited',
    columns = {ad_id: 'VARCHAR', event_type: 'VARCHAR', event_time: 'BIGINT'})"""
_PARQUET = "read_parquet($events)"


def w1_duckdb_json(inputs: Inputs, answer: Path, cores: int) -> None:
    """W1 over the NDJSON file; writes Parquet to `answer`."""
    _duckdb(_W1.format(events=_JSON), inputs, str(inputs.ndjson), answer, cores)


def w1_duckdb_parquet(inputs: Inputs, answer: Path, cores: int) -> None:
    """W1 over the Parquet files; writes Parquet to `answer`."""
    _duckdb(_W1.format(events=_PARQUET), inputs, inputs.parquet, answer, cores)


def w1_polars_json(inputs: Inputs, answer: Path, cores: int) -> None:
    """W1 over the NDJSON file with Polars' streaming engine; writes Parquet to `answer`."""
    fields = {name: ads.SCHEMA[name] for name in ("ad_id", "event_type", "event_time")}
    _w1_polars(pl.scan_ndjson(inputs.ndjson, schema=fields), inputs).write_parquet(answer)


def w1_polars_parquet(inputs: Inputs, answer: Path, cores: int) -> None:
    """W1 over the Parquet files with Polars' streaming engine; writes Parquet to `answer`."""
    _w1_polars(pl.scan_parquet(inputs.parquet), inputs).write_parquet(answer)


def reference(work: str, inputs: Inputs) -> pl.DataFrame:
    """The answer of `work`, computed once per inputs by DuckDB. CorruptionError if Polars gets another one."""
    answer = inputs.folder / f"{work}.answer.parquet"
    if not answer.exists():
        first, second = answer.with_suffix(".duckdb"), answer.with_suffix(".polars")
        REFERENCES[work][0](inputs, first, 0)
        REFERENCES[work][1](inputs, second, 0)
        if not same(pl.read_parquet(first), pl.read_parquet(second)):
            raise CorruptionError(
                f"DuckDB and Polars disagree about '{work}' over '{inputs.folder}'. Compare '{first}' and '{second}'"
            )
        second.unlink()
        first.rename(answer)
    return pl.read_parquet(answer)


def same(answer: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Equal as sets of rows with the same named columns; order does not count."""
    if sorted(answer.columns) != sorted(other.columns) or answer.height != other.height:
        return False
    columns = answer.columns
    return answer.sort(columns).equals(other.select(columns).sort(columns))


REFERENCES = dict.fromkeys(("W1-json", "W1-envelope"), (w1_duckdb_parquet, w1_polars_parquet))
"""Work → the one that decides, the one that checks it."""


def _duckdb(query: str, inputs: Inputs, events: str, answer: Path, cores: int) -> None:
    with duckdb.connect() as connection:
        if cores:
            connection.execute(f"SET threads = {cores}")
        target = str(answer).replace("'", "''")
        parameters = {"window": WINDOW_US, "campaigns": str(inputs.campaigns), "events": events}
        connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)", parameters).fetchall()


def _w1_polars(events: pl.LazyFrame, inputs: Inputs) -> pl.DataFrame:
    time = pl.col("event_time")
    return (
        events.filter(pl.col("event_type") == "view")
        .join(pl.scan_parquet(inputs.campaigns), on="ad_id")
        .group_by("campaign_id", (time - time % WINDOW_US).alias("window_start_us"))
        .agg(pl.len().cast(pl.Int64).alias("views"))
        .sort("campaign_id", "window_start_us")
        .collect(engine="streaming")
    )
