"""Files as sources and sinks of pipelines: the same as a topic, bad rows told by file and line, no file read half."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
import zstandard
from pipelines import collected, dead_letters, end_topic, make_topic, ordered, publish_json, read_events
from test_crashes import _Hurried as Hurried

import streamflow as sf
from streamflow import io
from streamflow.base.errors import DataError, NotFoundError, PipelineError, StreamFlowError
from streamflow.engine import context
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.topics import codec
from streamflow.topics.protocol import Log

SMALL = sf.Settings(partitions=3, step_events_max=7, shard_bytes=300)
SCHEMA = {"k": str, "v": pl.Int64, "at": int}
EVENTS = [{"k": "abc"[i % 3], "v": i if i % 5 else None, "at": (i * 37 % 100) * 1_000_000} for i in range(100)]


def write(folder: Path, name: str, events: list[dict[str, Any]] = EVENTS) -> None:
    """The events in two files, of the format that the name says."""
    for part in (events[:70], events[70:]):
        frame = pl.DataFrame(part, schema={"k": pl.String, "v": pl.Int64, "at": pl.Int64})
        path = folder / f"{len(part)}-{name}"
        if name.endswith(".parquet"):
            frame.write_parquet(path, row_group_size=10)
            continue
        text = (frame.write_csv() if ".csv" in name else frame.write_ndjson()).encode()
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(text))


def counts(source: Any) -> Callable[[sf.Pipeline], Any]:
    """Rows on columns behind one another: what comes of the events, whatever their order."""

    def build(p: sf.Pipeline) -> Any:
        windows = p | source | sf.WindowInto(sf.FixedWindows(10))
        return windows | sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v"), low=sf.Min("v"))

    return build


def from_topic(log: Log, events: list[dict[str, Any]] = EVENTS) -> list[Any]:
    make_topic(log, partitions=2)
    publish_json(log, events[:50], partition=0)
    publish_json(log, events[50:], partition=1)
    end_topic(log)
    p = sf.Pipeline("topic", on=log)
    counts(sf.ReadFromTopic("in", schema=SCHEMA, event_time="at", disorder=100))(p) | sf.WriteToTopic("out")
    p.run()
    return ordered(read_events(log))


SOURCES: dict[str, Callable[[str], Any]] = {
    "x.ndjson": lambda path: io.ReadFromJson(path, schema=SCHEMA, event_time="at"),
    "x.ndjson.gz": lambda path: io.ReadFromJson(path, schema=SCHEMA, event_time="at"),
    "free.ndjson.zst": lambda path: io.ReadFromJson(path, event_time="at"),
    "x.csv": lambda path: io.ReadFromCsv(path, schema=SCHEMA, event_time="at"),
    "quoted.csv": lambda path: io.ReadFromCsv(path, schema=SCHEMA, event_time="at", splittable=False),
    "x.csv.gz": lambda path: io.ReadFromCsv(path, schema=SCHEMA, event_time="at"),
    "x.parquet": lambda path: io.ReadFromParquet(path, schema=SCHEMA, event_time="at"),
    "free.parquet": lambda path: io.ReadFromParquet(path, event_time="at"),
}


@pytest.mark.parametrize("settings", [SMALL, sf.Settings()], ids=["small pieces", "as a whole"])
@pytest.mark.parametrize("name", SOURCES)
def test_files_give_what_the_topic_gives_that_the_events_were_published_to(
    tmp_path: Path, name: str, settings: sf.Settings
) -> None:
    expected = from_topic(sf.open_log("memory://"))
    write(tmp_path, name)
    assert ordered(collected(counts(SOURCES[name](f"{tmp_path}/*{name}")), settings)) == expected


def test_text_is_read_line_by_line_with_blank_ones_and_without_headers(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("head\n# more\none\r\n\nzwölf\nlast".encode())

    def lines(**options: Any) -> list[Any]:
        return collected(lambda p: p | io.ReadFromText(tmp_path / "a", **options), SMALL)

    assert lines(skip_header_lines=2) == ["one", "", "zwölf", "last"]
    assert lines(skip_header_lines=3, strip_trailing_newlines=False) == ["\n", "zwölf\n", "last\n"]


def test_events_of_files_without_event_time_have_the_earliest_as_those_of_create_have(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "p")

    def times(source: Any) -> list[Any]:
        return collected(lambda p: p | source | sf.Map(lambda _, t=sf.DoFn.TimestampParam: t))

    expected = times(sf.Create([1]))
    assert times(io.ReadFromText(tmp_path / "a")) == expected
    assert times(io.ReadFromJson(tmp_path / "a")) == expected
    assert times(io.ReadFromParquet(tmp_path / "p")) == expected


def test_csv_has_types_by_schema_and_text_without(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbfid,at,day,"a name",ok\r\n1,2024-01-02T03:04:05+01:00,2024-05-06,"x, ""y""",true\r\n\r\n'
        b"2,,,,false\r\n"
    )
    names = ["id", "at", "day", "a name", "ok"]
    types = [pl.Int32, pl.Datetime("us", "UTC"), pl.Date, pl.String, pl.Boolean]
    schema = dict(zip(names, types, strict=True))
    typed = pl.DataFrame(collected(lambda p: p | io.ReadFromCsv(tmp_path / "a.csv", schema=schema)))
    texts = collected(lambda p: p | io.ReadFromCsv(tmp_path / "a.csv"))
    assert typed.select(pl.all().cast(pl.String)).rows() == [
        ("1", "2024-01-02 02:04:05.000000+00:00", "2024-05-06", 'x, "y"', "true"),
        ("2", None, None, None, "false"),
    ]
    assert texts[0] == dict(zip(names, ["1", "2024-01-02T03:04:05+01:00", "2024-05-06", 'x, "y"', "true"], strict=True))
    (tmp_path / "b.csv").write_text("1;x\n2;y\n")
    bare = io.ReadFromCsv(tmp_path / "b.csv", schema={"n": int, "s": str}, header=False, sep=";")
    assert collected(lambda p: p | bare) == [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]


BAD: dict[str, tuple[Any, bytes, list[tuple[int, str]]]] = {
    "json": (
        lambda path: io.ReadFromJson(path, schema={"n": int}),
        b'{"n": 0}\n{"n": 1\n\n{"n": 3}\n{"n": "x"}\n{"n": 5}\n{"m": 6}\n',
        [(2, "DecodeError"), (5, "ValidationError"), (7, "ValidationError")],
    ),
    "csv": (
        lambda path: io.ReadFromCsv(path, schema={"n": int, "d": pl.Date}),
        b'n,d\n0,\nx,\n\n3,\n,\n5,,,\n6,"\n7,5/6\n8,2024-01-01\n9',
        [(3, "could not parse"), (6, "null"), (7, "more fields"), (8, "quote is not|could not parse"), (9, "ISO 8601")],
    ),
    "csv with line ends in fields": (
        lambda path: io.ReadFromCsv(path, schema={"n": int, "s": str}, splittable=False),
        b'n,s\n0,"a\n\nb"\nx,y\n3,"c\n"\nz,"\n"\n',
        [(5, "could not parse"), (8, "could not parse")],
    ),
    "text": (lambda path: io.ReadFromText(path), b"0\n1\n\xff\n3\n", [(3, "not UTF-8")]),
}


@pytest.mark.parametrize("settings", [SMALL, sf.Settings(shard_bytes=6)], ids=["whole", "shards of a line"])
@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_dead_letters_with_file_and_line(tmp_path: Path, name: str, settings: sf.Settings) -> None:
    source, content, expected = BAD[name]
    (tmp_path / "a").write_bytes(content)
    p = sf.Pipeline(on=(log := sf.open_log("memory://")), settings=settings)
    p | source(tmp_path / "a") | sf.Map(lambda value: value) | sf.WriteToTopic("out")
    p.run()
    letters = sorted(dead_letters(log), key=lambda letter: letter["line"])
    assert [letter["line"] for letter in letters] == [line for line, _ in expected]
    assert {letter["file"] for letter in letters} == {str(tmp_path / "a")}
    for letter, (_, error) in zip(letters, expected, strict=True):
        assert any(part in letter["error"] for part in error.split("|")), letter["error"]


def test_event_that_is_too_long_for_one_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "EVENT_BYTES_MAX", 2_000)
    (tmp_path / "a").write_bytes(b'{"n": 0}\n{"n": "' + b"x" * 5_000 + b'"}\n{"n": 2}\r\n')
    monkeypatch.setattr(context, "TEXT_CHARS_MAX", 300)
    p = sf.Pipeline(on=(log := sf.open_log("memory://")))
    p | io.ReadFromJson(tmp_path / "a", schema={"n": int}) | sf.WriteToTopic("out")
    p.run()
    assert read_events(log) == [{"n": 0}, {"n": 2}]
    assert [(letter["line"], letter["error"]) for letter in dead_letters(log)] == [
        (2, "DataError: an event of 5,009 bytes is too long.")
    ]


def test_rows_that_fail_later_are_dead_letters_with_file_and_row(tmp_path: Path) -> None:
    write(tmp_path, "x.parquet")
    p = sf.Pipeline(on=(log := sf.open_log("memory://")), settings=SMALL)
    p | io.ReadFromParquet(f"{tmp_path}/*", columns=["v"]) | sf.Map(lambda row: 1 / (row["v"] - 71))
    p.run()
    odd = [letter for letter in dead_letters(log) if letter["error"].startswith("ZeroDivisionError")]
    assert [(letter["file"], letter["row"]) for letter in odd] == [(str(tmp_path / "30-x.parquet"), 2)]
    assert len(dead_letters(log)) == 1 + 20


def test_no_window_closes_before_all_files_are_read(tmp_path: Path) -> None:
    """Also where the files are read one after the other by one task, in an order of its own."""
    for i in range(6):
        write(tmp_path, f"{i}.csv", [{"k": "a", "v": 1, "at": 5_000_000}] * 80)
    source = io.ReadFromCsv(f"{tmp_path}/*", schema=SCHEMA, event_time="at")
    rows = collected(counts(source), sf.Settings(partitions=2, step_events_max=9, shard_bytes=100))
    assert [row["n"] for row in rows] == [480]


def test_files_are_listed_once_and_anew_after_a_reset(tmp_path: Path) -> None:
    log = sf.open_log("memory://")

    def lines() -> list[Any]:
        p = sf.Pipeline("p", on=log)
        p | "Read" >> io.ReadFromText(f"{tmp_path}/*.txt") | sf.WriteToTopic("out")
        p.run()
        return ordered(read_events(log))

    (tmp_path / "1.txt").write_text("a\n")
    assert lines() == ["a"]
    (tmp_path / "2.txt").write_text("b\n")
    (tmp_path / "1.txt").unlink()
    assert lines() == ["a"]
    log.reset_pipeline("p")
    assert lines() == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda path: path.unlink(), NotFoundError, "was there when the pipeline was started, and is gone"),
        (lambda path: path.write_text("x"), DataError, "has changed since the pipeline was started"),
    ],
    ids=["gone", "changed"],
)
@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.ndjson.gz"])
def test_file_that_changes_before_it_is_read_stops_the_pipeline_with_an_error(
    tmp_path: Path, name: str, change: Callable[[Path], Any], error: type[StreamFlowError], message: str
) -> None:
    write(tmp_path, name)
    log = sf.open_log("memory://")
    p = sf.Pipeline("p", settings=SMALL)
    p | SOURCES[name](f"{tmp_path}/*{name}") | sf.WriteToTopic("out")
    plan = launch(p, log, SMALL)
    change(tmp_path / f"70-{name}")
    worker = Worker(plan, log, None, clock=Hurried(), until=lambda snapshot: is_finished(plan, snapshot))
    with pytest.raises(error, match=message):
        worker.run()


def test_files_of_an_object_store_are_read_through_fsspec() -> None:
    system = fsspec.filesystem("memory")
    for part, events in (("1", EVENTS[:70]), ("2", EVENTS[70:])):
        frame = pl.DataFrame(events)
        with system.open(f"/store/{part}.ndjson", "wb") as file:
            file.write(frame.write_ndjson().encode())
        with system.open(f"/store/{part}.parquet", "wb") as file:
            frame.write_parquet(file)
    expected = from_topic(sf.open_log("memory://"))
    for name in ("ndjson", "parquet"):
        source = SOURCES[f"x.{name}"](f"memory://store/*.{name}")
        assert ordered(collected(counts(source), SMALL)) == expected


def test_sinks_write_what_sources_read(tmp_path: Path) -> None:
    write(tmp_path, "x.ndjson")
    p = sf.Pipeline("p", settings=SMALL)
    rows = p | io.ReadFromJson(f"{tmp_path}/*x.ndjson", schema=SCHEMA)
    rows | io.WriteToParquet(tmp_path / "out" / "p")
    rows | io.WriteToCsv(tmp_path / "out" / "c", file_name_suffix=".csv.gz")
    rows | io.WriteToJson(tmp_path / "out" / "j")
    rows | sf.Map(lambda row: f"{row['k']} {row['v']}") | io.WriteToText(tmp_path / "out" / "t", ".txt", header="k v")
    p.run()
    again: dict[str, Any] = {
        "p": io.ReadFromParquet(tmp_path / "out" / "p*"),
        "c": io.ReadFromCsv(tmp_path / "out" / "c*", schema=SCHEMA),
        "j": io.ReadFromJson(tmp_path / "out" / "j*"),
    }
    for name, source in again.items():
        assert ordered(collected(lambda p, source=source: p | source)) == ordered(EVENTS), name
    texts = collected(lambda p: p | io.ReadFromText(tmp_path / "out" / "t*", skip_header_lines=1))
    assert ordered(texts) == ordered(f"{event['k']} {event['v']}" for event in EVENTS)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "event time that the schema lacks": (
        lambda: io.ReadFromCsv("x", schema={"a": int}, event_time="b"),
        r"event_time 'b' is not in the schema \(a\)",
    ),
    "CSV without any names": (lambda: io.ReadFromCsv("x", header=False), "Give a schema"),
    "nested field of CSV": (lambda: io.ReadFromCsv("x", schema={"a": list[int]}), r"field 'a' is List\(Int64\)"),
    "columns twice": (lambda: io.ReadFromParquet("x", columns=["a"], schema={"a": int}), "Give one of them"),
    "unknown compression": (lambda: io.ReadFromText("x", compression_type="rar"), "'rar' is not known. Use one of"),
    "sink that can be seen half written": (
        lambda: io.WriteToJson("sftp://host/x"),
        "is neither a local path nor in an",
    ),
    "sink that names a folder": (lambda: io.WriteToJson("out/"), "Give a prefix of a file's name"),
    "late panes that correct": (
        lambda: (
            sf.Pipeline()
            | sf.Create([1])
            | sf.WindowInto(sf.FixedWindows(1), accumulation_mode=sf.AccumulationMode.ACCUMULATING, allowed_lateness=1)
            | sf.Aggregate(n=sf.Count())
            | sf.Aggregate(n=sf.Count())
            | io.WriteToJson("x")
        ),
        "late panes would stand beside the panes they correct",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_work_is_refused_when_it_is_built(what: str) -> None:
    build, message = REFUSED[what]
    with pytest.raises(PipelineError, match=message):
        build()


def test_pattern_that_matches_nothing_is_refused_at_launch(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file matches '.*/no\*'. Is the path right"):
        collected(lambda p: p | io.ReadFromText(tmp_path / "no*"))
