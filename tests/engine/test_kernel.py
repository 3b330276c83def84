"""The native decoder of JSON lines: what it takes the general decoder takes too, and makes the same columns of it."""

import json
import shutil
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loadgen.dataset import to_json
from loadgen.profiles import ads
from streamflow.engine import kernel
from streamflow.examples.ads import View
from streamflow.model.schema import Field, Schema, schema_of

if kernel.streamflow_kernel is None:
    if shutil.which("cargo"):
        pytest.fail("cargo is on the path, but the kernel is not installed: run `make setup`", pytrace=False)
    pytest.skip("the kernel is not installed, and there is no cargo to build it", allow_module_level=True)

PYTHON = {"String": str, "Boolean": bool, "Float64": float}
"""All other kinds are integers."""


def field(name: str, kind: str, required: bool = True, nullable: bool = False) -> Field:
    return Field(name, getattr(pl, kind)(), PYTHON.get(kind, int), required, nullable)


def plainly(schema: Schema, lines: bytes, count: int) -> pl.DataFrame | None:
    """What the kernel makes of one record, as it is."""
    fields = [(f.name, str(f.dtype), f.required, f.nullable) for f in schema.fields]
    columns, (taken,) = kernel.streamflow_kernel.Decoder(fields).decode([(lines, count)])
    frame = pl.DataFrame({f.name: pl.Series(column) for f, column in zip(schema.fields, columns, strict=True)})
    assert taken or frame.height == 0
    return frame if taken else None


def generally(schema: Schema, lines: bytes, count: int) -> pl.DataFrame | None:
    """What msgspec makes of it."""
    struct: Any = schema.struct()
    try:
        events: list[Any] = msgspec.json.Decoder(struct).decode_lines(lines)
    except (msgspec.DecodeError, ValueError):
        return None
    if len(events) != count:
        return None
    values = {name: [getattr(event, attribute) for event in events] for name, attribute in schema.attribute_order()}
    return pl.DataFrame(values, schema=schema.polars(), strict=True)


def check(schema: Schema, lines: bytes, count: int) -> bool:
    """Whether the kernel took it; then both agree."""
    native = plainly(schema, lines, count)
    if native is None:
        return False
    general = generally(schema, lines, count)
    assert general is not None
    assert_frame_equal(native, general, check_exact=True)
    # Equal floats may differ in the sign of nought.
    floats = native.select(pl.col(pl.Float64).reinterpret(signed=False))
    assert_frame_equal(floats, general.select(pl.col(pl.Float64).reinterpret(signed=False)))
    return True


NAMES = ["a", "b", "naïve", "x y", ""]
schemas = st.lists(
    st.builds(
        field, st.sampled_from(NAMES), st.sampled_from(kernel.streamflow_kernel.KINDS), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda f: f.name,
).map(lambda fields: Schema(tuple(fields)))

spaces = st.sampled_from([""] * 12 + [" ", "  ", "\t", "\r", "\n", "\x0b"])
texts = st.text(max_size=20) | st.text("ab", max_size=30)
numbers = (
    st.integers(-300, 300).map(str)
    | st.integers(-(2**70), 2**70).map(str)
    | st.sampled_from(
        [
            f"{sign}{2**bits + off}"
            for sign in ("", "-")
            for bits in (7, 8, 15, 16, 31, 32, 63, 64)
            for off in (-1, 0, 1)
        ]
    )
    | st.floats().map(json.dumps)
    | st.from_regex(r"\A-?[0-9]{0,3}(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?\Z")
)
scalars = (
    texts.map(lambda text: json.dumps(text, ensure_ascii=False))
    | texts.map(json.dumps)
    | st.sampled_from(["null", "true", "false", "True", "nul", r'"\u00zz"', r'"\ud800"', r'"\x"', '"\\', '"a'])
    | numbers
)


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda items: f"[{','.join(items)}]")


def objects(values: st.SearchStrategy[str], keys: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(spaces, keys, spaces, st.just(":"), spaces, values, spaces).map("".join)
    return st.lists(member, max_size=5).map(lambda members: "{" + ",".join(members) + "}")


keys = st.sampled_from([f'"{name}"' for name in NAMES] * 3 + ['"other"', r'"\u0061"', r'"a\n"', "a"])
nested = st.recursive(scalars, lambda inner: listed(inner) | objects(inner, keys), max_leaves=5)


@st.composite
def fitting(draw: st.DrawFn, schema: Schema) -> str:
    """A document of the schema, mostly."""
    by_kind = {"String": texts.map(json.dumps), "Boolean": st.sampled_from(["true", "false"]), "Float64": numbers}
    members = []
    for f in schema.fields:
        value = by_kind.get(str(f.dtype), st.integers(-130, 300).map(str))
        if f.nullable:
            value |= st.just("null")
        if f.required or draw(st.booleans()):
            members.append(f"{json.dumps(f.name, ensure_ascii=False)}:{draw(value)}")
    if draw(st.integers(0, 3)) == 0:
        members.append(f"{draw(keys)}:{draw(nested)}")
    return "{" + ",".join(draw(st.permutations(members))) + "}"


@st.composite
def records(draw: st.DrawFn) -> tuple[Schema, bytes, int]:
    schema = draw(schemas)
    document = fitting(schema) | objects(nested, keys) if draw(st.booleans()) else fitting(schema)
    documents = draw(st.lists(document, min_size=1, max_size=4))
    lines = bytearray("".join(f"{text}\n" for text in documents).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + draw(st.integers(0, 1))] = draw(
            st.sampled_from([b"", b'"', b"\\", b"\n", b" ", b",", b"}", b"0"]) | st.binary(max_size=2)
        )
        lines = lines or bytearray(b"\n")
    return schema, bytes(lines), len(documents) + draw(st.sampled_from([0] * 9 + [-1, 1]))


@settings(max_examples=1_000)
@given(records())
def test_what_the_kernel_takes_the_general_decoder_takes_with_equal_values(record: tuple[Schema, bytes, int]) -> None:
    check(*record)


plain_texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters='"\\'), max_size=40)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "String": plain_texts,
    "Boolean": st.booleans(),
    "Float64": st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != 0),
    **{
        f"{sign}{bits}": st.integers(low(bits), high(bits))
        for sign, low, high in (
            ("Int", lambda n: -(2 ** (n - 1)), lambda n: 2 ** (n - 1) - 1),
            ("UInt", lambda n: 0, lambda n: 2**n - 1),
        )
        for bits in (8, 16, 32)
    },
    "Int64": st.integers(-(10**18) + 1, 10**18 - 1),
}


def test_every_kind_of_the_kernel_is_tested() -> None:
    assert PLAIN.keys() == set(kernel.streamflow_kernel.KINDS)


@given(st.data(), st.sampled_from([None, (", ", ": "), (",", ":")]))
def test_plain_documents_are_taken(data: st.DataObject, separators: tuple[str, str] | None) -> None:
    schema = data.draw(schemas)
    members: dict[str, st.SearchStrategy[Any]] = {
        f.name: PLAIN[str(f.dtype)] | st.none() if f.nullable else PLAIN[str(f.dtype)] for f in schema.fields
    }
    required = {f.name: members[f.name] for f in schema.fields if f.required}
    optional = {f.name: members[f.name] for f in schema.fields if not f.required} | {"other": PLAIN["Float64"] | texts}
    events = data.draw(st.lists(st.fixed_dictionaries(required, optional=optional), min_size=1, max_size=20))
    lines = "".join(json.dumps(event, ensure_ascii=False, separators=separators) + "\n" for event in events)
    assert check(schema, lines.encode(), len(events))


AB = Schema((field("a", "Int8"), field("b", "String", required=False, nullable=True)))


@pytest.mark.parametrize(
    "line",
    [
        '{"a":1}',
        '{"b":null,"a":-128}',
        '{"a":127,"b":"naïve"}',
        ' { "a" : 1 , "b" : "x" } ',
        '{"a":0,"b":""}',
        '{"x":"\\u00e9\\n\\"","a":1}',
        '{"x":[1,-2.5e3,{"y":{}},[],"]"],"a":1}',
        '{"x":1,"x":2,"a":1}',
        '{"a":1,"b":"thirteen byte"}',
        '{"a":1,"b":"twelve bytes"}',
        '{"a":1,"x":' + "[" * 32 + "]" * 32 + "}",
    ],
)
def test_this_is_plainly_fine(line: str) -> None:
    assert check(AB, f"{line}\n".encode(), 1)


@pytest.mark.parametrize(
    "line",
    [
        '{"a":128}', '{"a":-129}', '{"a":1.0}', '{"a":1e0}', '{"a":-0}', '{"a":01}', '{"a":+1}', '{"a":-}', '{"a":}',
        '{"a":"1"}', '{"a":true}', '{"a":null}', '{"a":[1]}', '{"a":1,"a":1}', '{"b":"x"}', "{}", "[]", "1", "", " ",
        '{"a":1,"b":1}', '{"a":1,"b":"\\n"}', '{"\\u0061":1}', '{"a":1,"b":"\t"}', '{"a":1}{"a":1}', '{"a":1},',
        '{"a":1,}', '{,"a":1}', '{"a" 1}', '{"a":1 "b":"x"}', '{"a":1', '"a":1}', '{"a":1}}', '{"a":1}x', "{a:1}",
        '{"a":1,"x":nul}', '{"a":1,"x":01}', '{"a":1,"x":1.}', '{"a":1,"x":.5}', '{"a":1,"x":1e}', '{"a":1,"x":--1}',
        '{"a":1,"x":"\\x"}', '{"a":1,"x":"\\u12g4"}', '{"a":1,"x":"\\ud800"}', '{"a":1,"x":"\\', '{"a":1,"x":"',
        '{"a":1,"x":[1,]}', '{"a":1,"x":[1 2]}', '{"a":1,"x":{"y"}}', '{"a":1,"x":[}', '{"a":1,"x":{1:2}}',
        '{"a":1,"x":' + "[" * 33 + "]" * 33 + "}", '{"a":1\t}', '\ufeff{"a":1}', '{"a":1}\r', '{"a":1,"x":"\x7f\x00"}',
    ],
)  # fmt: skip
def test_this_is_not_plainly_fine(line: str) -> None:
    lines = f'{{"a":5,"b":"before"}}\n{line}\n{{"a":6}}\n'.encode()
    assert plainly(AB, lines, 3) is None


@pytest.mark.parametrize("char", ["\x00", "\x01", "\t", "\n", "\x1f"])
def test_a_control_character_in_a_string_that_nobody_wants_is_refused(char: str) -> None:
    """It may look like an escape: what follows it is one of an escape's letters."""
    for text in (f"{char}n", f"\\n{char}n", f"\\u00e9{char}u00e9", f"{char}\\"):
        assert plainly(AB, f'{{"a":1,"x":"{text}"}}\n'.encode(), 1) is None


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_bytes_that_are_no_utf_8_are_refused_wherever_they_are(bad: bytes) -> None:
    for line in (b'{"a":1,"b":"%s"}\n', b'{"a":1,"x":"%s"}\n', b'{"a":1,"%s":0}\n'):
        assert plainly(AB, line % bad, 1) is None
        assert plainly(AB, line % b"x", 1) is not None


@pytest.mark.parametrize("count", [0, 1, 3, 2**40])
def test_another_number_of_lines_than_told_is_refused(count: int) -> None:
    lines = b'{"a":1}\n{"a":2}\n'
    assert plainly(AB, lines, 2) is not None
    assert plainly(AB, lines, count) is None
    assert plainly(AB, lines[:-1], 2) is None
    assert plainly(AB, lines + b"\n", 3) is None


def test_refused_records_leave_nothing_among_the_columns_of_the_others() -> None:
    good, bad = b'{"a":1,"b":"a text of some length"}\n{"a":2}\n', b'{"a":3,"b":"another long text"}\n{"a":4,"b":5}\n'
    decoder = kernel.streamflow_kernel.Decoder([("a", "Int8", True, False), ("b", "String", False, True)])
    columns, taken = decoder.decode([(bad, 2), (good, 2), (bad, 2), (good, 2), (b"", 1)])
    assert taken == [False, True, False, True, False]
    assert [pl.Series(column).to_list() for column in columns] == [[1, 2] * 2, ["a text of some length", None] * 2]


def test_column_outlives_its_decoder_and_may_be_taken_twice_or_never() -> None:
    columns, _ = kernel.streamflow_kernel.Decoder([("b", "String", True, False)]).decode(
        [(b'{"b":"%s"}\n' % (b"x" * 99), 1)]
    )
    capsules = columns[0].__arrow_c_array__()
    first, second = pl.Series(columns[0]), pl.Series(columns[0])
    del capsules, columns
    assert first.to_list() == second.to_list() == ["x" * 99]


@pytest.mark.parametrize("after", ["", " " * 200])
def test_strings_and_numbers_of_every_size_are_read_to_their_end(after: str) -> None:
    """Also close to the end of the record, where there is no block to look at."""
    schema = Schema((field("s", "String"), field("n", "Int64")))
    for size in range(200):
        for char in "xä":
            assert check(schema, f'{{"n":1,"s":"{char * size}"}}{after}\n'.encode(), 1)
    for digits in range(1, 19):
        for sign in ("", "-"):
            assert check(schema, f'{{"s":"","n":{sign}{"123456789012345678"[:digits]}}}{after}\n'.encode(), 1)


@pytest.mark.parametrize("place", range(18))
@pytest.mark.parametrize("char", "*+,-./:;<?@GPa \x10")
def test_what_is_no_digit_ends_a_number_or_its_record(place: int, char: str) -> None:
    digits = "123456789012345678"
    lines = f'{{"a":{digits[:place]}{char}{digits[place + 1 :]}}}\n'.encode()
    check(Schema((field("a", "Int64"),)), lines, 1)


def test_memory_is_used_again_only_when_nobody_has_it() -> None:
    decoder = kernel.streamflow_kernel.Decoder([("a", "Int64", False, True), ("b", "String", False, True)])

    def decoded(first: int, rows: int) -> list[pl.Series]:
        lines = b"".join(b'{"a":%d,"b":"a text of number %d"}\n{}\n' % (i, i) for i in range(first, first + rows))
        columns, taken = decoder.decode([(lines, 2 * rows)])
        assert taken == [True]
        return [pl.Series(column) for column in columns]

    def expected(first: int, rows: int) -> list[list[Any]]:
        numbers = range(first, first + rows)
        return [[v for i in numbers for v in (i, None)], [v for i in numbers for v in (f"a text of number {i}", None)]]

    held = decoded(0, 20_000)
    for first, rows in ((50_000, 20_000), (70_000, 5_000), (80_000, 30_000)):  # gone before the next
        assert [series.to_list() for series in decoded(first, rows)] == expected(first, rows)
    assert [series.to_list() for series in held] == expected(0, 20_000)


def test_bytes_that_someone_may_write_to_are_refused() -> None:
    with pytest.raises(BufferError):
        kernel.streamflow_kernel.Decoder([]).decode([(bytearray(b"{}\n"), 1)])


def test_unknown_kind_and_too_many_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="'Date'"):
        kernel.streamflow_kernel.Decoder([("a", "Date", True, False)])
    many = [(str(i), "Int8", True, False) for i in range(kernel.streamflow_kernel.FIELDS_MAX + 1)]
    with pytest.raises(ValueError, match="fields"):
        kernel.streamflow_kernel.Decoder(many)


@pytest.mark.parametrize(
    "schema", [{}, {"at": pl.Date}, {"n": pl.UInt64}, {"n": list[int]}, {str(i): int for i in range(65)}]
)
def test_schema_that_the_kernel_does_not_know_goes_without_it(schema: Any) -> None:
    assert kernel.plain_decoder(Schema(()) if schema == {} else schema_of(schema)) is None


def test_as_many_fields_as_allowed_are_decoded_and_all_required() -> None:
    names = [str(i) for i in range(kernel.streamflow_kernel.FIELDS_MAX)]
    schema, event = schema_of(dict.fromkeys(names, int)), {name: int(name) for name in names}
    assert check(schema, json.dumps(event).encode() + b"\n", 1)
    for name in names:
        less = {other: value for other, value in event.items() if other != name}
        assert plainly(schema, json.dumps(less).encode() + b"\n", 1) is None


def test_events_of_the_benchmark_are_taken() -> None:
    events = to_json(ads.events(0, 1_000, 0))
    assert check(schema_of(View), b"".join(event + b"\n" for event in events), len(events))
