"""From records to columns: every kind of schema, every kind of field, every form of event time."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NotRequired, TypedDict

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import end_topic, make_topic, publish_frame, publish_json, read_events, read_times_us

import streamflow as sf
from streamflow.engine.source import SourceDecoder
from streamflow.model.batch import to_elements
from streamflow.model.schema import SchemaLike
from streamflow.topics import codec
from streamflow.topics.protocol import Record

pytestmark = pytest.mark.usefixtures("with_and_without_kernel")


class Typed(TypedDict):
    name: str
    delay: int | None
    note: NotRequired[str]


@dataclass
class Data:
    name: str
    delay: int | None
    note: str = ""


class Struct(msgspec.Struct):
    name: str
    delay: int | None
    note: str = ""


MAPPING = {"name": pl.String, "delay": pl.Int64, "note": pl.String}


def json_record(events: list[bytes], times_us: list[int] | None = None, offset: int = 0) -> Record:
    return replace(codec.encode_json("in", 0, events, times_us or [0] * len(events)), offset=offset)


def frame_record(frame: pl.DataFrame, offset: int = 0) -> Record:
    timed = frame.with_columns(pl.lit(0, pl.Int64).alias("_time"))
    return replace(codec.encode_frame("in", 0, timed), offset=offset)


class Decoded:
    """What a decoder makes of records: rows, event times, offsets, and the offsets and errors of bad events."""

    def __init__(self, transform: sf.ReadFromTopic, *records: Record) -> None:
        self.bad: dict[int, str] = {}
        self.inputs: dict[int, Any] = {}
        self.rows: list[Any] = []
        self.times: list[int] = []
        self.offsets: list[int] = []
        for batch in SourceDecoder(transform).decode(records, self._on_bad):
            elements = to_elements(batch)
            self.rows += elements.values
            self.times += elements.times
            self.offsets += elements.offsets

    def _on_bad(self, value: Any, offset: int, error: Exception) -> None:
        assert offset not in self.bad
        self.bad[offset] = str(error)
        self.inputs[offset] = value


@pytest.mark.parametrize("schema", [Typed, Data, Struct, MAPPING])
def test_every_kind_of_schema_decodes_the_same_json(schema: SchemaLike) -> None:
    record = json_record(
        [
            b'{"name": "a", "delay": 5, "note": "x", "unwanted": {"deep": [1]}}',
            b'{"name": "b", "delay": null, "note": "y"}',
        ]
    )
    decoded = Decoded(sf.ReadFromTopic("in", schema=schema), record)
    assert decoded.rows == [{"name": "a", "delay": 5, "note": "x"}, {"name": "b", "delay": None, "note": "y"}]
    assert decoded.bad == {}


@pytest.mark.parametrize("schema", [Typed, Data, Struct])
@pytest.mark.parametrize("envelope", [False, True])
def test_optional_field_may_be_absent_and_a_required_or_non_null_one_not(schema: SchemaLike, envelope: bool) -> None:
    events = [
        {"name": "a", "delay": None},
        {"name": None, "delay": 1},
        {"name": "b", "delay": 2},
    ]
    record = frame_record(pl.DataFrame(events)) if envelope else json_record([json.dumps(e).encode() for e in events])
    decoded = Decoded(sf.ReadFromTopic("in", schema=schema), record)
    assert decoded.rows == [{"name": "a", "delay": None, "note": None}, {"name": "b", "delay": 2, "note": None}]
    assert list(decoded.bad) == [1]
    lacking = frame_record(pl.DataFrame({"name": ["a"]})) if envelope else json_record([b'{"name": "a"}'])
    assert list(Decoded(sf.ReadFromTopic("in", schema=schema), lacking).bad) == [0]


@dataclass
class Place:
    city: str
    zips: list[int]


@dataclass
class Stay:
    since: datetime
    nights: list[date]


@dataclass
class Visit:
    place: Place | None
    tags: list[str]
    path: list[Place] = field(default_factory=list)


def test_nested_structs_and_lists_become_nested_columns() -> None:
    record = json_record(
        [
            b'{"place": {"city": "Rome", "zips": [1, 2]}, "tags": ["a"], "path": [{"city": "Oslo", "zips": []}]}',
            b'{"place": null, "tags": []}',
            b'{"place": {"city": 5, "zips": []}, "tags": []}',
        ]
    )
    decoded = Decoded(sf.ReadFromTopic("in", schema=Visit), record)
    assert decoded.rows == [
        {"place": {"city": "Rome", "zips": [1, 2]}, "tags": ["a"], "path": [{"city": "Oslo", "zips": []}]},
        {"place": None, "tags": [], "path": None},
    ]
    assert list(decoded.bad) == [2]


def test_times_and_dates_inside_structs_stay_times_and_dates() -> None:
    record = json_record([b'{"stay": {"since": "2024-05-01T10:00:00Z", "nights": ["2024-05-01"]}}'])
    decoded = Decoded(sf.ReadFromTopic("in", schema={"stay": Stay}), record)
    assert decoded.rows == [{"stay": {"since": datetime(2024, 5, 1, 10, tzinfo=UTC), "nights": [date(2024, 5, 1)]}}]


def test_dates_and_times_are_read_from_iso_8601() -> None:
    record = json_record(
        [b'{"at": "2024-05-01T10:00:00+02:00", "day": "2024-05-01"}', b'{"at": "2024-05-01T10:00:00", "day": "x"}']
    )
    decoded = Decoded(sf.ReadFromTopic("in", schema={"at": datetime, "day": date}), record)
    assert decoded.rows == [{"at": datetime(2024, 5, 1, 8, tzinfo=UTC), "day": date(2024, 5, 1)}]
    assert list(decoded.bad) == [1]


def test_envelope_is_projected_and_cast_to_the_schema() -> None:
    frame = pl.DataFrame(
        {"other": [0], "n": pl.Series([7], dtype=pl.Int8), "s": pl.Series(["x"], dtype=pl.Categorical)}
    )
    decoded = Decoded(sf.ReadFromTopic("in", schema={"s": str, "n": float}), frame_record(frame))
    assert decoded.rows == [{"s": "x", "n": 7.0}]


def test_json_and_envelopes_mix_in_one_read_whatever_the_order_of_their_fields() -> None:
    @dataclass
    class Swapped:
        note: str | None
        n: int

    json_first = json_record([b'{"n": 1, "note": "json"}'])
    envelope = frame_record(pl.DataFrame({"n": [2], "note": ["envelope"]}), 1)
    decoded = Decoded(sf.ReadFromTopic("in", schema=Swapped), json_first, envelope)
    assert decoded.rows == [{"note": "json", "n": 1}, {"note": "envelope", "n": 2}]
    assert decoded.offsets == [0, 1]


@pytest.mark.parametrize(
    "raws",
    [
        [b'{"n": 1}\n{"n": 2}', b""],
        [b'{"n":', b'1}{"n": 2}'],
        [b'{"n": 1} {"n": 2}', b" "],
        [b'{"n": 1}{"n": 2}', b"{}"],
        [b'{"n": 1}, {"n": 2}', b"{"],
    ],
)
def test_bad_events_are_not_taken_for_each_other_s_good_halves(raws: list[bytes]) -> None:
    decoded = Decoded(sf.ReadFromTopic("in", schema={"n": int}), json_record([b'{"n": 0}', *raws, b'{"n": 9}']))
    assert decoded.rows == [{"n": 0}, {"n": 9}]
    assert list(decoded.bad) == [1, 2]
    assert [decoded.inputs[1], decoded.inputs[2]] == raws


def test_layout_of_a_json_document_does_not_matter() -> None:
    raws = [b'{"n": 1}\n', b' {"n":\n2} ', b'\t{"n": 3, "x": "a\\nb"}']
    assert Decoded(sf.ReadFromTopic("in", schema={"n": int}), json_record(raws)).rows == [{"n": 1}, {"n": 2}, {"n": 3}]


@dataclass
class Inner:
    ns: list[int]


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        (int, "9223372036854775808", "9223372036854775807"),
        (int, "1" + "0" * 40, "-9223372036854775808"),
        (pl.Int8, "128", "-128"),
        (pl.UInt16, "-1", "65535"),
        (pl.UInt64, "18446744073709551616", "18446744073709551615"),
        (float, "1e999", "1e99"),
        (str, '"\\ud800"', '"\\ud83d\\ude00"'),
        (list[int], "[9223372036854775808]", "[1]"),
        (Inner, '{"ns": [9223372036854775808]}', '{"ns": [1]}'),
        (datetime, '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"'),
    ],
)
def test_value_beyond_the_range_of_its_column_is_bad_and_harms_no_other(kind: Any, bad: str, good: str) -> None:
    raws = [f'{{"n": {text}}}'.encode() for text in (good, bad, good)]
    decoded = Decoded(sf.ReadFromTopic("in", schema={"n": kind}), json_record(raws))
    assert (decoded.offsets, list(decoded.bad)) == ([0, 2], [1])


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ns"), inner, max_size=2),
    max_leaves=4,
)


@given(
    raws=st.lists(
        st.fixed_dictionaries({"n": st.integers(-5, 5), "s": st.none() | st.text(max_size=3)}).map(
            lambda event: json.dumps(event).encode()
        )
        | documents.map(lambda document: json.dumps(document, indent=1).encode())
        | st.binary(max_size=6),
        min_size=1,
        max_size=8,
    )
)
def test_each_event_is_decoded_as_if_it_were_alone(raws: list[bytes]) -> None:
    transform = sf.ReadFromTopic("in", schema={"n": int, "s": pl.String})
    together = Decoded(transform, json_record(raws))
    alone = [Decoded(transform, json_record([raw], offset=i)) for i, raw in enumerate(raws)]
    assert together.rows == [row for one in alone for row in one.rows]
    assert together.offsets == [offset for one in alone for offset in one.offsets]
    assert together.bad.keys() == {offset for one in alone for offset in one.bad}


MAY = datetime(2024, 5, 1, 12, 30, 15, 250_000, tzinfo=UTC)
MAY_US = 1_714_566_615_250_000

TEXTS = {
    "2024-05-01T12:30:15.25Z": MAY_US,
    "2024-05-01T12:30:15.250000+00:00": MAY_US,
    "2024-05-01T14:30:15.25+02:00": MAY_US,
    "2024-05-01T12:30:15.25": MAY_US,
    "2024-05-01 12:30:15.250": MAY_US,
    "2024-05-01T12:30": MAY_US - 15_250_000,
    "2024-05-01": MAY_US - MAY_US % 86_400_000_000,
    "1969-12-31T23:59:59.5Z": -500_000,
    "yesterday": None,
    "": None,
    "05/01/2024": None,
}


@pytest.mark.parametrize("schema", [None, {"at": pl.String}])
@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_event_time_is_read_from_text_whatever_else_is_in_the_batch(
    schema: Any, envelope: bool, together: bool
) -> None:
    events = [{"at": text} for text in TEXTS]
    groups = [events] if together else [[event] for event in events]
    times: list[int] = []
    bad: list[str] = []
    for group in groups:
        record = frame_record(pl.DataFrame(group)) if envelope else json_record([json.dumps(e).encode() for e in group])
        decoded = Decoded(sf.ReadFromTopic("in", schema=schema, event_time="at"), record)
        times += decoded.times
        bad += [group[offset]["at"] for offset in decoded.bad]
    assert times == [time_us for time_us in TEXTS.values() if time_us is not None]
    assert bad == [text for text, time_us in TEXTS.items() if time_us is None]


@pytest.mark.parametrize(
    ("column", "expected_us"),
    [
        (pl.Series([MAY_US]), MAY_US),
        (pl.Series([MAY_US // 1_000_000], dtype=pl.Int32), MAY_US // 1_000_000),
        (pl.Series([MAY], dtype=pl.Datetime("us", "UTC")), MAY_US),
        (pl.Series([MAY], dtype=pl.Datetime("ms", "UTC")), MAY_US),
        (pl.Series([MAY.replace(tzinfo=None)], dtype=pl.Datetime("ns")), MAY_US),
        (pl.Series([MAY], dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo"), MAY_US),
        (pl.Series([MAY.date()]), MAY_US - MAY_US % 86_400_000_000),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pl.Series) else "",
)
@pytest.mark.parametrize("declared", [False, True])
def test_event_time_is_read_from_columns_of_time_or_microseconds(
    column: pl.Series, expected_us: int, declared: bool
) -> None:
    schema = {"at": column.dtype} if declared else None
    transform = sf.ReadFromTopic("in", schema=schema, event_time="at")
    assert Decoded(transform, frame_record(column.to_frame("at"))).times == [expected_us]


@pytest.mark.parametrize("at", [None, 1.5, True, [1], {"a": 1}, 10**18, -(10**18), MAY_US * 1000])
@pytest.mark.parametrize("envelope", [False, True])
def test_event_without_a_possible_event_time_is_bad(at: Any, envelope: bool) -> None:
    bad = frame_record(pl.DataFrame([{"at": at}])) if envelope else json_record([json.dumps({"at": at}).encode()])
    good = json_record([b'{"at": 5}'], offset=1)
    decoded = Decoded(sf.ReadFromTopic("in", event_time="at"), bad, good)
    assert (decoded.times, list(decoded.bad)) == ([5], [0])


def test_event_without_the_event_time_field_is_bad() -> None:
    records = json_record([b'{"at": 5}', b'{"ta": 5}', b"[1]", b'"text"', b"5"])
    assert list(Decoded(sf.ReadFromTopic("in", event_time="at"), records).bad) == [1, 2, 3, 4]
    envelope = frame_record(pl.DataFrame({"att": [1]}))
    assert Decoded(sf.ReadFromTopic("in", event_time="at"), envelope).bad[0].endswith("Did you mean 'att'?")


def test_publishers_time_counts_without_an_event_time_field() -> None:
    record = json_record([b'{"n": 1}', b'{"n": 2}'], [7, -7])
    assert Decoded(sf.ReadFromTopic("in", schema={"n": int}), record).times == [7, -7]
    assert Decoded(sf.ReadFromTopic("in"), record).times == [7, -7]


@pytest.mark.parametrize("schema", [None, {"n": int}])
def test_publishers_time_that_is_none_is_bad(schema: Any) -> None:
    record = json_record([b'{"n": 1}', b'{"n": 2}'], [7, (1 << 62) - 1])
    decoded = Decoded(sf.ReadFromTopic("in", schema=schema), record)
    assert (decoded.times, list(decoded.bad)) == ([7], [1])


def test_messages_carry_key_and_attributes() -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    with sf.Publisher(log, "in") as publisher:
        publisher.publish({"n": 1}, key="k", event_time_us=3, attributes={"type": "view"})
        publisher.publish({"n": 2}, event_time_us=4)
    end_topic(log)
    seen: list[sf.Message] = []
    p = sf.Pipeline(on=log)
    p | sf.ReadFromTopic("in", with_attributes=True) | sf.Map(seen.append)
    p.run()
    assert seen == [sf.Message({"n": 1}, b"k", {"type": "view"}), sf.Message({"n": 2}, None, {})]


def test_what_one_pipeline_writes_another_reads_with_the_same_times() -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    publish_json(log, [{"n": 1}, {"n": 2}], [10, 20])
    publish_frame(log, pl.DataFrame({"n": [3]}), [30])
    end_topic(log)
    first = sf.Pipeline("first", on=log)
    first | sf.ReadFromTopic("in", schema={"n": int}) | sf.WriteToTopic("between")
    first.run()
    end_topic(log, "between")
    second = sf.Pipeline("second", on=log)
    second | sf.ReadFromTopic("between") | sf.Map(lambda row: {"m": row["n"] * 10}) | sf.WriteToTopic("out")
    second.run()
    assert sorted(event["m"] for event in read_events(log)) == [10, 20, 30]
    assert sorted(read_times_us(log)) == [10, 20, 30]
