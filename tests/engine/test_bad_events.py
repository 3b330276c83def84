"""Events that can't go on: the good ones are not touched, each bad one is a dead letter with its exact origin."""

from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import (
    dead_letters,
    end_topic,
    make_topic,
    ordered,
    publish_frame,
    publish_json,
    read_events,
)

import streamflow as sf
from streamflow.topics import codec
from streamflow.topics.protocol import Log

pytestmark = pytest.mark.usefixtures("with_and_without_kernel")

Build = Callable[[Any], Any]
SCHEMA = {"k": str, "v": int}
PARTITION = 2


def run(
    events: Sequence[Any],
    build: Build,
    *,
    schema: Any = SCHEMA,
    envelope: pl.DataFrame | None = None,
    settings: sf.Settings | None = None,
) -> tuple[list[Any], list[dict[str, Any]], sf.PipelineResult]:
    """Publish to one partition of four, run to the end; what was written, the dead letters, the result."""
    log = sf.connect("memory://")
    make_topic(log)
    if events:
        publish_json(log, events, partition=PARTITION)
    if envelope is not None:
        publish_frame(log, envelope, partition=PARTITION)
    end_topic(log)
    pipeline = sf.Pipeline("bad", on=log, settings=settings)
    built = build(pipeline | "Read" >> sf.ReadFromTopic("in", schema=schema, bounded=True))
    built | "Write" >> sf.WriteToTopic("out")
    result = pipeline.run()
    letters = dead_letters(log, "bad")
    assert result.total("dead_lettered") == len(letters)
    assert all(
        {*letter} == {"error", "transform", "topic", "partition", "offset", "input", "traceback"} for letter in letters
    )
    return read_events(log), letters, result


def origin(letter: dict[str, Any]) -> tuple[str, str, int, int]:
    return letter["transform"], letter["topic"], letter["partition"], letter["offset"]


def untouched(pcoll: Any) -> Any:
    return pcoll


GOOD = {"k": "a", "v": 1}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b'{"k": "a", "v": ', "DecodeError: "),
        (b"", "DecodeError: "),
        (b"\xff\xfe", "DecodeError: "),
        (b"[1]", "Expected `object`"),
        (b'{"k": "a"}', "missing required field `v`"),
        (b'{"k": "a", "v": "1"}', "Expected `int`, got `str` - at `$.v`"),
        (b'{"k": "a", "v": null}', "Expected `int`, got `null` - at `$.v`"),
    ],
)
def test_json_that_does_not_fit_the_schema_is_a_dead_letter(bad: bytes, words: str) -> None:
    out, (letter,), _ = run([GOOD, bad, GOOD], untouched)
    assert out == [GOOD, GOOD]
    assert origin(letter) == ("Read", "in", PARTITION, 1)
    assert words in letter["error"]
    assert letter["input"] == bad.decode("utf-8", errors="backslashreplace")
    assert letter["traceback"].strip().endswith(letter["error"].split(": ", 1)[1])


def test_malformed_json_without_a_schema_is_a_dead_letter() -> None:
    out, (letter,), _ = run([GOOD, b"{", 5], lambda events: events, schema=None)
    assert ordered(out) == ordered([GOOD, 5])
    assert origin(letter) == ("Read", "in", PARTITION, 1)
    assert letter["error"].startswith("DataError: malformed JSON")


@pytest.mark.parametrize(
    ("envelope", "bad_offsets", "words"),
    [
        (pl.DataFrame({"k": ["a", "b"], "w": [1, 2]}), [1, 2], "column 'v' not found"),
        (pl.DataFrame({"k": ["a", None], "v": [1, 1]}), [2], "is null"),
        (pl.DataFrame({"k": ["a", "b", "c"], "v": ["1", "x", "3"]}), [2], "conversion from `str` to `i64` failed"),
        (pl.DataFrame({"k": ["a", "b"], "v": [1.0, 2.0**70]}), [2], "conversion from `f64` to `i64` failed"),
        (pl.DataFrame({"k": [["a"]], "v": [1]}), [1], "cannot cast"),
    ],
)
def test_envelope_rows_that_do_not_fit_are_dead_letters_with_all_their_columns(
    envelope: pl.DataFrame, bad_offsets: list[int], words: str
) -> None:
    whole = envelope.with_columns(extra=pl.lit("kept"))
    out, letters, _ = run([GOOD], untouched, envelope=whole)
    assert len(out) == 1 + envelope.height - len(bad_offsets)
    assert [origin(letter) for letter in letters] == [("Read", "in", PARTITION, offset) for offset in bad_offsets]
    assert [letter["input"] for letter in letters] == [whole.row(offset - 1, named=True) for offset in bad_offsets]
    assert all(words in letter["error"] for letter in letters)


def fussy(row: dict[str, Any]) -> dict[str, Any]:
    if row["v"] == 13:
        raise ValueError("unlucky")
    return row


EVENTS = [{"k": "abc"[i % 3], "v": i} for i in range(30)]
LUCKY = [event for event in EVENTS if event["v"] != 13]


@pytest.mark.parametrize(
    ("label", "build"),
    [
        ("Fussy", lambda pcoll: pcoll | "Fussy" >> sf.Map(fussy)),
        ("Fussy", lambda pcoll: pcoll | "Fussy" >> sf.Filter(fussy)),
        ("Fussy", lambda pcoll: pcoll | "Fussy" >> sf.FlatMap(lambda row: [fussy(row)])),
        ("Late", lambda pcoll: pcoll | sf.Where(sf.col("v") >= 0) | sf.Map(dict) | "Late" >> sf.Map(fussy)),
    ],
)
def test_function_that_raises_loses_only_its_event(label: str, build: Build) -> None:
    out, (letter,), _ = run(EVENTS, build)
    assert ordered(out) == ordered(LUCKY)
    assert origin(letter) == (label, "in", PARTITION, 13)
    assert letter["input"] == EVENTS[13]
    assert letter["error"] == "ValueError: unlucky"
    assert 'raise ValueError("unlucky")' in letter["traceback"]


def test_element_is_bad_as_a_whole_when_one_of_its_outputs_is() -> None:
    def halfway(row: dict[str, Any]) -> Any:
        yield row
        fussy(row)

    out, letters, _ = run(EVENTS, lambda pcoll: pcoll | sf.FlatMap(halfway))
    assert ordered(out) == ordered(LUCKY)
    assert [letter["offset"] for letter in letters] == [13]


TEXTS = [{"k": "x" if i % 10 == 7 else str(i), "v": i} for i in range(40)]
STRICT = sf.col("k").cast(pl.Int64)


@pytest.mark.parametrize(
    ("label", "build"),
    [
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.WithColumns(n=STRICT)),
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.Select("v", n=STRICT)),
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.Where(STRICT >= 0)),
        ("Cast", lambda pcoll: pcoll | "Before" >> sf.Where(sf.col("v") >= 0) | "Cast" >> sf.WithColumns(n=STRICT)),
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.WithColumns(n=STRICT) | "After" >> sf.Where(sf.col("n") >= 0)),
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.WithColumns(n=STRICT) | "After" >> sf.Map(lambda row: row)),
        ("Cast", lambda pcoll: pcoll | "Cast" >> sf.AsColumns({"k": pl.Int64, "v": pl.Int64})),
    ],
)
def test_expression_that_fails_on_some_rows_loses_only_these(label: str, build: Build) -> None:
    out, letters, _ = run(TEXTS, build)
    assert sorted(row["v"] for row in out) == [i for i in range(40) if i % 10 != 7]
    assert [origin(letter) for letter in letters] == [(label, "in", PARTITION, i) for i in (7, 17, 27, 37)]
    assert letters[0]["input"] == {"k": "x", "v": 7}


@pytest.mark.parametrize("rows_only", [False, True])
def test_expression_that_fails_before_an_aggregate_loses_only_its_rows(rows_only: bool) -> None:
    def build(pcoll: Any) -> Any:
        return pcoll | "Cast" >> sf.WithColumns(n=STRICT) | sf.Aggregate(total=sf.Sum("n"), count=sf.Count())

    out, letters, _ = run(TEXTS, build, settings=sf.Settings(rows_only=rows_only))
    assert out == [{"total": sum(i for i in range(40) if i % 10 != 7), "count": 36}]
    assert [(letter["transform"], letter["offset"]) for letter in letters] == [("Cast", i) for i in (7, 17, 27, 37)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (5, "needs (key, value) pairs, got 5"),
        ((1, 2, 3), "needs (key, value) pairs"),
        ((object(), 1), "can't be a key"),
        ((2**100, 1), "can't be a key"),
        (("a", lambda: 0), "pickle"),
    ],
)
def test_element_that_can_not_be_grouped_loses_only_itself(bad: Any, words: str) -> None:
    def build(pcoll: Any) -> Any:
        pairs = pcoll | "Pairs" >> sf.Map(lambda row: bad if row["v"] == 13 else (row["k"], row["v"]))
        return pairs | "Group" >> sf.GroupByKey() | sf.MapTuple(lambda key, values: {"k": key, "vs": sorted(values)})

    out, (letter,), _ = run(EVENTS, build)
    expected = {k: [i for i in range(30) if "abc"[i % 3] == k and i != 13] for k in "abc"}
    assert {row["k"]: row["vs"] for row in out} == expected
    assert origin(letter) == ("Group", "in", PARTITION, 13)
    assert words in letter["error"]


@pytest.mark.parametrize("bad_at", [0, 1, 13, 29])
@pytest.mark.parametrize("fn", [sum, max])
def test_value_that_can_not_be_combined_loses_only_itself(bad_at: int, fn: Any) -> None:
    def build(pcoll: Any) -> Any:
        values = pcoll | sf.Map(lambda row: "x" if row["v"] == bad_at else row["v"])
        return values | "Combine" >> sf.CombineGlobally(fn)

    out, letters, _ = run(EVENTS, build)
    if fn is max and bad_at == 0:
        # Alone it can be combined; with whom it does not go is decided by who came first.
        assert len(letters) == 29
        return
    assert out == [fn(i for i in range(30) if i != bad_at)]
    assert [origin(letter) for letter in letters] == [("Combine", "in", PARTITION, bad_at)]


def test_value_in_several_windows_that_can_not_be_combined_is_one_dead_letter() -> None:
    def build(pcoll: Any) -> Any:
        values = pcoll | sf.Map(lambda row: "x" if row["v"] == 13 else row["v"])
        sliding = values | sf.WindowInto(sf.SlidingWindows(60, 10))
        return sliding | "Combine" >> sf.CombineGlobally(sum).without_defaults()

    out, letters, _ = run(EVENTS, build)
    assert out == [sum(range(30)) - 13] * 6
    assert [letter["offset"] for letter in letters] == [13]


MIXED: dict[str, tuple[list[Any], list[int]]] = {
    "text among numbers": ([1, "x", 2], [1]),
    "text first": (["x", 1, 2], [0]),
    "number among texts": (["a", 5, "b"], [1]),
    "null goes with all": ([None, "x", 1, 2, None], [1]),
    "whole and broken numbers go together": ([1, 2.5, "x", None, True], [2]),
    "a set": ([1, {"a": 1}, 3], [1]),
    "a list": ([[1], [2], 3], [2]),
    "a number among structs": ([{"a": 1}, {"b": 2}, 3], [2]),
}


@pytest.mark.parametrize("case", MIXED)
def test_value_of_another_kind_than_most_loses_only_its_event(case: str) -> None:
    values, bad = MIXED[case]
    events = [{"i": i, "v": value} for i, value in enumerate(values)]
    out, letters, _ = run(events, lambda pcoll: pcoll | "Columns" >> sf.Select("i", "v"), schema=None)
    assert [row["i"] for row in out] == [i for i in range(len(values)) if i not in bad]
    assert [origin(letter) for letter in letters] == [("Columns", "in", PARTITION, i) for i in bad]


def test_elements_that_are_no_dicts_can_not_become_columns() -> None:
    out, letters, _ = run([{"v": 1}, 5, "x", [1]], lambda pcoll: pcoll | "Columns" >> sf.Select("v"), schema=None)
    assert out == [{"v": 1}]
    assert [letter["input"] for letter in letters] == [5, "x", [1]]
    assert "columns need a dict per element, got int" in letters[0]["error"]


def test_object_that_no_column_holds_loses_only_its_element() -> None:
    def build(pcoll: Any) -> Any:
        return (
            pcoll | sf.Map(lambda row: row | {"x": {1} if row["v"] == 13 else None}) | "Columns" >> sf.Select("k", "v")
        )

    out, letters, _ = run(EVENTS, build)
    assert ordered(out) == ordered(LUCKY)
    assert [origin(letter) for letter in letters] == [("Columns", "in", PARTITION, 13)]


@pytest.mark.parametrize("bad", [{1, 2}, object(), "\ud800", 2**80, b"x" * (codec.EVENT_BYTES_MAX + 1)], ids=type)
def test_value_that_can_not_be_published_loses_only_itself(bad: Any) -> None:
    out, letters, _ = run(EVENTS, lambda pcoll: pcoll | sf.Map(lambda row: bad if row["v"] == 13 else row))
    assert ordered(out) == ordered(LUCKY)
    assert [origin(letter) for letter in letters] == [("Write", "in", PARTITION, 13)]


@pytest.mark.parametrize("seconds", [1e18, -1e18, float("inf"), float("nan")])
def test_timestamp_that_can_be_none_loses_only_its_element(seconds: float) -> None:
    def build(pcoll: Any) -> Any:
        return pcoll | "Stamp" >> sf.Map(lambda row: sf.TimestampedValue(row, seconds if row["v"] == 13 else row["v"]))

    out, letters, _ = run(EVENTS, build)
    assert ordered(out) == ordered(LUCKY)
    assert [origin(letter) for letter in letters] == [("Stamp", "in", PARTITION, 13)]


@pytest.mark.parametrize("given", ["abc", 7])
def test_what_is_no_iterable_of_outputs_is_refused_with_a_hint_text_too(given: Any) -> None:
    _, letters, _ = run([GOOD], lambda pcoll: pcoll | sf.FlatMap(lambda row: given))
    kind = type(given).__name__
    assert f"must return an iterable of outputs, got a {kind}. Wrap it in a list, or use Map" in letters[0]["error"]


def test_branches_fail_each_for_itself() -> None:
    def build(pcoll: Any) -> Any:
        return (pcoll | "One" >> sf.Map(fussy), pcoll | "Two" >> sf.Map(lambda row: row)) | sf.Flatten()

    out, letters, _ = run(EVENTS, build)
    assert ordered(out) == ordered([*LUCKY, *EVENTS])
    assert [origin(letter) for letter in letters] == [("One", "in", PARTITION, 13)]


json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab", max_size=2)


@given(
    events=st.lists(
        st.fixed_dictionaries({"v": json_values}, optional={"k": json_values}) | json_values, min_size=1, max_size=12
    ),
    cuts=st.sets(st.integers(1, 11)),
)
def test_every_event_comes_out_or_is_a_dead_letter(events: list[Any], cuts: set[int]) -> None:
    log: Log = sf.connect("memory://")
    make_topic(log, partitions=1)
    starts = sorted({0, *(cut for cut in cuts if cut < len(events))})
    for begin, end in zip(starts, [*starts[1:], len(events)], strict=True):
        publish_json(log, events[begin:end])
    end_topic(log)
    pipeline = sf.Pipeline("p", on=log, settings=sf.Settings(step_events_max=1))
    read = pipeline | sf.ReadFromTopic("in")
    read | sf.Filter(sf.col("v") != 3) | sf.WithColumns(w=sf.col("v") + 1) | sf.WriteToTopic("out")
    result = pipeline.run()
    bad = {letter["offset"] for letter in dead_letters(log, "p")}
    assert result.total("dead_lettered") == len(bad)
    filtered = [isinstance(event, dict) and event["v"] in (None, 3) for event in events]
    assert len(read_events(log)) == sum(i not in bad and not gone for i, gone in enumerate(filtered))


BATCHES: list[list[dict[str, Any]]] = [[{"v": 1}], [{"v": "x"}], [{"v": 2.5}], [{"v": [1]}], [{"v": None}]]


@pytest.mark.parametrize("step_events_max", [1, 10**6])
def test_kinds_that_differ_between_batches_are_written_each_as_it_is(step_events_max: int) -> None:
    log = sf.connect("memory://")
    make_topic(log, partitions=1)
    for batch in BATCHES:
        publish_json(log, batch)
    end_topic(log)
    p = sf.Pipeline("p", on=log, settings=sf.Settings(step_events_max=step_events_max))
    p | sf.ReadFromTopic("in") | sf.Select("v") | sf.WriteToTopic("out")
    assert p.run().total("dead_lettered") == 0
    assert ordered(row["v"] for row in read_events(log)) == ordered([1, "x", 2.5, [1], None])


@pytest.mark.parametrize("step_events_max", [1, 10**6])
def test_grouping_keeps_to_the_kinds_of_values_it_saw_first(step_events_max: int) -> None:
    log = sf.connect("memory://")
    make_topic(log, partitions=1)
    for batch in BATCHES:
        publish_json(log, batch)
    end_topic(log)
    p = sf.Pipeline("p", on=log, settings=sf.Settings(step_events_max=step_events_max, partitions=1))
    read = p | sf.ReadFromTopic("in", bounded=True)
    read | "Group" >> sf.Aggregate(by=["v"], n=sf.Count()) | sf.WriteToTopic("out")
    assert p.run().total("dead_lettered") == 2
    assert ordered((row["v"], row["n"]) for row in read_events(log)) == ordered([(1.0, 1), (2.5, 1), (None, 1)])
    letters = dead_letters(log, "p")
    assert ordered(letter["input"]["v"] for letter in letters) == ordered(["x", [1]])
    assert all("columns of other kinds than before" in letter["error"] for letter in letters)


class Reading(TypedDict):
    k: str
    v: int | None
    note: NotRequired[str]


def test_elements_that_lack_a_declared_column_or_have_null_in_it_are_bad() -> None:
    rows = [{"k": "a", "v": 1}, {"v": 2}, {"k": None, "v": 3}, {"k": "b", "v": None, "extra": 1}]
    out, letters, _ = run(rows, lambda pcoll: pcoll | "Declared" >> sf.AsColumns(Reading), schema=None)
    assert out == [{"k": "a", "v": 1, "note": None}, {"k": "b", "v": None, "note": None}]
    assert [origin(letter) for letter in letters] == [
        ("Declared", "in", PARTITION, 1),
        ("Declared", "in", PARTITION, 2),
    ]
