"""The right answers, by two batch engines that share no code: DuckDB gives them, Polars cross-checks. Both are measured
too, as limits.

W1: views per campaign and 10 s window: campaign_id (String), window_start_us (Int64), views (Int64).
W2: per user and 10 s window: user_id (String), window_start_us (Int64), events (Int64), micros (Int64), which is
the sum of event_time % 1,000,000.
Windows are `[start, end)` with `start = t - floormod(t, size)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import polars as pl

from loadgen.bench.inputs import WINDOW_US, Inputs
from loadgen.bench.job import Job, Runner
from loadgen.profiles import ads
from streamflow.base.errors import CorruptionError


@dataclass(frozen=True)
class Question:
    """One work as a batch query. `fields`: those that it needs; `sql`: over `{events}`; `lazy`: over the events."""

    fields: tuple[str, ...]
    sql: str
    lazy: Callable[[pl.LazyFrame, Inputs], pl.LazyFrame]


_START_SQL = "event_time - ((event_time % $window) + $window) % $window AS window_start_us"
_START = (pl.col("event_time") - pl.col("event_time") % WINDOW_US).alias("window_start_us")


def _views(events: pl.LazyFrame, inputs: Inputs) -> pl.LazyFrame:
    return (
        events.filter(pl.col("event_type") == "view")
        .join(pl.scan_csv(inputs.campaigns), on="ad_id")
        .group_by("campaign_id", _START)
        .agg(pl.len().cast(pl.Int64).alias("views"))
    )


def _users(events: pl.LazyFrame, inputs: Inputs) -> pl.LazyFrame:
    micros = (pl.col("event_time") % 1_000_000).sum().alias("micros")
    return events.group_by("user_id", _START).agg(pl.len().cast(pl.Int64).alias("events"), micros)


W1 = Question(
    ("ad_id", "event_type", "event_time"),
    f"""SELECT campaign_id, {_START_SQL}, count(*)::BIGINT AS views
        FROM {{events}} JOIN (SELECT * FROM read_csv($campaigns, header = true)) USING (ad_id)
        WHERE event_type = 'view' GROUP BY ALL""",
    _views,
)
W2 = Question(
    ("user_id", "event_time"),
    f"""SELECT user_id, {_START_SQL}, count(*)::BIGINT AS events, sum(event_time % 1000000)::BIGINT AS micros
        FROM {{events}} GROUP BY ALL""",
    _users,
)
QUESTIONS: Mapping[str, Question] = {"W1-json": W1, "W1-envelope": W1, "W2-json": W2, "W2-envelope": W2}
"""Work → what it asks."""


def duckdb_json(question: Question, inputs: Inputs, answer: Path, cores: int) -> None:
    """The answer over the NDJSON file, as Parquet in `answer`. `cores` 0: all."""
    columns = ", ".join(f"{name}: '{_SQL_TYPES[type(ads.SCHEMA[name])]}'" for name in question.fields)
    events = f"read_json($events, format = 'newline_delimited', columns = {{{columns}}})"
    _duckdb(question, inputs, events, str(inputs.ndjson), answer, cores)


def duckdb_parquet(question: Question, inputs: Inputs, answer: Path, cores: int) -> None:
    """The answer over the Parquet files, as Parquet in `answer`. `cores` 0: all."""
    _duckdb(question, inputs, "read_parquet($events)", inputs.parquet, answer, cores)


def polars_json(question: Question, inputs: Inputs, answer: Path, cores: int) -> None:
    """The answer over the NDJSON file with Polars' streaming engine, as Parquet in `answer`."""
    fields = {name: ads.SCHEMA[name] for name in question.fields}
    question.lazy(pl.scan_ndjson(inputs.ndjson, schema=fields), inputs).collect(engine="streaming").write_parquet(
        answer
    )


def polars_parquet(question: Question, inputs: Inputs, answer: Path, cores: int) -> None:
    """The answer over the Parquet files with Polars' streaming engine, as Parquet in `answer`."""
    _polars(question, inputs, pl.scan_parquet(inputs.parquet), answer)


def reference(work: str, inputs: Inputs) -> pl.DataFrame:
    """The answer of `work`, computed once per inputs by DuckDB. CorruptionError if Polars gets another one."""
    answer = inputs.folder / f"{work}.answer.parquet"
    if not answer.exists():
        first, second = answer.with_suffix(".duckdb"), answer.with_suffix(".polars")
        deciding, checking = REFERENCES[work]
        deciding(inputs, first, 0)
        checking(inputs, second, 0)
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


REFERENCES: dict[str, tuple[Callable[[Inputs, Path, int], None], Callable[[Inputs, Path, int], None]]] = {
    work: (partial(duckdb_parquet, question), partial(polars_parquet, question)) for work, question in QUESTIONS.items()
}
"""Work → the one that decides, the one that checks it."""
_SQL_TYPES: Mapping[type, str] = {pl.String: "VARCHAR", pl.Int64: "BIGINT"}


def _runner(engine: Callable[[Question, Inputs, Path, int], None], question: Question) -> Runner:
    def run(job: Job) -> None:
        engine(question, job.inputs, Path(job.answer), job.cores)

    return run


RUNNERS: Mapping[str, Mapping[str, Runner]] = {
    system: {work: _runner(json if work.endswith("json") else parquet, asked) for work, asked in QUESTIONS.items()}
    for system, json, parquet in (("duckdb", duckdb_json, duckdb_parquet), ("polars", polars_json, polars_parquet))
}


def _duckdb(question: Question, inputs: Inputs, source: str, events: str, answer: Path, cores: int) -> None:
    with duckdb.connect() as connection:
        if cores:
            connection.execute(f"SET threads = {cores}")
        target = str(answer).replace("'", "''")
        query = question.sql.format(events=source)
        given = {"window": WINDOW_US, "campaigns": str(inputs.campaigns), "events": events}
        used = {name: value for name, value in given.items() if f"${name}" in query}
        connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)", used).fetchall()


def _polars(question: Question, inputs: Inputs, events: pl.LazyFrame, answer: Path) -> None:
    question.lazy(events, inputs).collect(engine="streaming").write_parquet(answer)
