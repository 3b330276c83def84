"""Bigtable's data model: order, mutations, scans, long keys, growth."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamflow.base.errors import ConflictError, CorruptionError, DataError, FencedError, NotFoundError
from streamflow.stores.widerow import (
    Cell,
    CellWrite,
    DeleteFromColumn,
    DeleteFromFamily,
    DeleteFromRow,
    Mutation,
    SetCell,
    WideRowStore,
)
from streamflow.stores.widerow.encoding import (
    KEY_BYTES_MAX,
    decode_timestamp,
    encode_column,
    encode_row,
    encode_timestamp,
    is_hashed,
    prefix_end,
    row_part,
)
from streamflow.stores.widerow.store import SCAN_ROWS

BYTES = st.lists(st.sampled_from([b"\x00", b"\x01", b"\x02", b"\xff", b"a", b"b"]), min_size=1, max_size=6).map(
    b"".join
)
KEYS = st.one_of(
    BYTES,
    # Around the length from which keys are hashed, in groups that share what is kept of them.
    st.builds(
        lambda fill, count, tail: fill * count + tail,
        st.sampled_from([b"k", b"\x00", b"\xff"]),
        st.integers(158, 322),
        BYTES,
    ),
    st.binary(min_size=1, max_size=8),
)
TIMESTAMPS = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WideRowStore]:
    with WideRowStore(tmp_path / "s") as opened:
        yield opened


def put(store: WideRowStore, *keys: bytes) -> None:
    store.mutate_rows([(key, [SetCell("f", b"q", 1, key[-9:])]) for key in keys])


def keys_of(store: WideRowStore, **bounds: bytes | int | None) -> list[bytes]:
    return [row.key for row in store.scan(**bounds)]  # type: ignore[arg-type]


@given(st.tuples(KEYS, KEYS))
def test_encoded_rows_sort_as_their_keys_unless_both_are_hashed_alike(pair: tuple[bytes, bytes]) -> None:
    first, second = map(encode_row, pair)
    if not (is_hashed(first) and is_hashed(second) and first[:-16] == second[:-16]):
        assert (first < second) == (pair[0] < pair[1])
        assert (first == second) == (pair[0] == pair[1])


@given(KEYS, st.binary(max_size=200), TIMESTAMPS)
def test_keys_fit_lmdb_and_give_their_parts_back(key: bytes, qualifier: bytes, timestamp_us: int) -> None:
    whole = encode_row(key) + encode_column("f" * 64, qualifier) + encode_timestamp(timestamp_us)
    assert len(whole) <= KEY_BYTES_MAX
    assert row_part(whole) == encode_row(key)
    assert decode_timestamp(whole) == timestamp_us


@given(TIMESTAMPS, TIMESTAMPS)
def test_newer_timestamps_sort_first(first: int, second: int) -> None:
    assert (encode_timestamp(first) < encode_timestamp(second)) == (first > second)


@given(BYTES, BYTES)
def test_prefix_end_is_above_exactly_what_starts_with_the_prefix(prefix: bytes, tail: bytes) -> None:
    end = prefix_end(prefix)
    assert end is None or prefix + tail < end
    assert end is None or not end.startswith(prefix)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(KEYS, min_size=1, max_size=25), st.tuples(KEYS, KEYS), BYTES)
def test_scans_are_in_byte_order_within_their_bounds(
    tmp_path_factory: pytest.TempPathFactory, keys: set[bytes], bounds: tuple[bytes, bytes], prefix: bytes
) -> None:
    with WideRowStore(tmp_path_factory.mktemp("scan") / "s") as store:
        put(store, *keys)
        ordered = sorted(keys)
        start, end = bounds
        assert keys_of(store) == ordered
        assert keys_of(store, start=start, end=end) == [key for key in ordered if start <= key < end]
        assert keys_of(store, prefix=prefix) == [key for key in ordered if key.startswith(prefix)]
        assert keys_of(store, start=start, limit=3) == [key for key in ordered if key >= start][:3]
        for key in keys:
            row = store.read_row(key)
            assert row is not None
            assert row.newest("f", b"q") == key[-9:]


def test_scans_go_on_over_many_transactions(store: WideRowStore) -> None:
    long = [b"k" * 400 + b"%05d" % i for i in range(SCAN_ROWS + 50)]
    short = [b"%05d" % i for i in range(2 * SCAN_ROWS)]
    put(store, *long, *short)
    assert keys_of(store) == sorted(long + short)
    assert keys_of(store, limit=SCAN_ROWS) == short[:SCAN_ROWS]
    assert keys_of(store, prefix=b"k", limit=SCAN_ROWS + 1) == long[: SCAN_ROWS + 1]
    assert keys_of(store, limit=0) == []


def test_a_store_may_be_written_while_it_is_scanned(store: WideRowStore) -> None:
    put(store, *(b"%05d" % i for i in range(2 * SCAN_ROWS)))
    seen = []
    for row in store.scan():
        store.mutate(row.key, [DeleteFromRow()])
        seen.append(row.key)
    assert len(seen) == 2 * SCAN_ROWS
    assert keys_of(store) == []


def test_cells_are_newest_first_and_columns_in_byte_order(store: WideRowStore) -> None:
    qualifiers = [b"", b"\x00", b"a", b"a\x00", b"\xff", b"l" * 90 + b"2", b"l" * 90 + b"1", b"l" * 16_000]
    store.mutate(b"r", [SetCell(f, q, t, b"%d" % t) for f in ("b", "a") for q in qualifiers for t in (1, -5, 3)])
    row = store.read_row(b"r")
    assert row is not None
    assert list(row.families) == ["a", "b"]
    assert list(row.families["a"]) == sorted(qualifiers)
    assert row.families["b"][b"a"] == [Cell(3, b"3"), Cell(1, b"1"), Cell(-5, b"-5")]
    assert row.newest("b", b"a") == b"3"
    assert row.newest("b", b"nope") is None


def test_writing_a_cell_again_replaces_it(store: WideRowStore) -> None:
    store.mutate(b"r", [SetCell("f", b"q", 1, b"old"), SetCell("f", b"q", 1, b"new")])
    store.mutate(b"r", [SetCell("f", b"q", 1, b"newest")])
    row = store.read_row(b"r")
    assert row is not None
    assert row.families["f"][b"q"] == [Cell(1, b"newest")]


@pytest.mark.parametrize("key", [b"r", b"r" * 400])
@pytest.mark.parametrize(
    ("mutation", "left"),
    [
        (DeleteFromColumn("f", b"q"), {("f", b"p", 2), ("g", b"q", 2)}),
        (DeleteFromColumn("f", b"q", 2, 3), {("f", b"q", 1), ("f", b"q", 3), ("f", b"p", 2), ("g", b"q", 2)}),
        (DeleteFromColumn("f", b"q", start_us=2), {("f", b"q", 1), ("f", b"p", 2), ("g", b"q", 2)}),
        (DeleteFromColumn("f", b"q", end_us=2), {("f", b"q", 2), ("f", b"q", 3), ("f", b"p", 2), ("g", b"q", 2)}),
        (DeleteFromFamily("f"), {("g", b"q", 2)}),
        (DeleteFromRow(), set()),
    ],
)
def test_deletions_take_exactly_what_they_name(
    store: WideRowStore, key: bytes, mutation: Mutation, left: set[tuple[str, bytes, int]]
) -> None:
    content = [("f", b"q", 1), ("f", b"q", 2), ("f", b"q", 3), ("f", b"p", 2), ("g", b"q", 2)]
    neighbours = [key + b"\x00", key[:-1] + b"q", key + b"x"]
    for row_key in (key, *neighbours):
        store.mutate(row_key, [SetCell(f, q, t, b"") for f, q, t in content])
    store.mutate(key, [mutation])
    row = store.read_row(key)
    found = row.families.items() if row else ()
    assert {(f, q, cell.timestamp_us) for f, columns in found for q, cells in columns.items() for cell in cells} == left
    assert keys_of(store) == sorted(neighbours + ([key] if left else []))


def test_mutations_of_a_row_happen_in_order(store: WideRowStore) -> None:
    store.mutate(b"r" * 400, [SetCell("f", b"q", 1, b"a"), DeleteFromRow(), SetCell("f", b"q", 2, b"b")])
    row = store.read_row(b"r" * 400)
    assert row is not None
    assert row.families == {"f": {b"q": [Cell(2, b"b")]}}


def test_an_invalid_mutation_leaves_everything_as_it_was(store: WideRowStore) -> None:
    bad = [
        (b"", [SetCell("f", b"q", 1, b"")]),
        (b"x" * 4_097, [SetCell("f", b"q", 1, b"")]),
        (b"x", [SetCell("f!", b"q", 1, b"")]),
        (b"x", [SetCell("f", b"q" * 20_000, 1, b"")]),
        (b"x", [SetCell("f", b"q", 1 << 63, b"")]),
    ]
    for row_key, mutations in bad:
        with pytest.raises(DataError):
            store.mutate_rows([(b"good", [SetCell("f", b"q", 1, b"")]), (row_key, mutations)])
    assert keys_of(store) == []
    assert store.read_row(b"x" * 4_096) is None


def test_apply_skips_what_is_stored_and_fences_lower_epochs(store: WideRowStore) -> None:
    cells = [CellWrite(offset, b"r", "f", b"q", offset, b"%d" % offset) for offset in range(6)]
    assert store.apply("app", 2, 3, cells[:3]) == 3
    assert store.apply("app", 2, 3, cells[:3]) == 0
    assert store.apply("app", 3, 5, cells[1:5]) == 2
    with pytest.raises(FencedError, match="'app' was continued with epoch 3, above 2"):
        store.apply("app", 2, 6, cells)
    assert store.position("app") == (3, 5)
    row = store.read_row(b"r")
    assert row is not None
    assert [cell.timestamp_us for cell in row.families["f"][b"q"]] == [4, 3, 2, 1, 0]


def test_of_cells_with_one_address_the_last_counts(store: WideRowStore) -> None:
    store.apply("app", 1, 3, [CellWrite(i, b"r", "f", b"q", 7, value) for i, value in enumerate([b"z", b"a", b"m"])])
    row = store.read_row(b"r")
    assert row is not None
    assert row.families["f"][b"q"] == [Cell(7, b"m")]


def test_the_map_grows_past_its_initial_size(tmp_path: Path) -> None:
    with WideRowStore(tmp_path / "s", map_bytes=1 << 16) as store:
        for row in range(20):
            store.mutate(b"%d" % row, [SetCell("f", b"q", 1, b"x" * 100_000)])
        assert sum(len(row.newest("f", b"q") or b"") for row in store.scan()) == 2_000_000


def test_other_processes_follow_a_grown_map(tmp_path: Path) -> None:
    grow = (
        "import sys; from pathlib import Path; from streamflow.stores.widerow import *\n"
        "with WideRowStore(Path(sys.argv[1])) as store:\n"
        "    store.mutate(b'big', [SetCell('f', b'q', 1, b'x' * 4_000_000)])"
    )
    with WideRowStore(tmp_path / "s", map_bytes=1 << 20) as store:
        put(store, b"small")
        subprocess.run([sys.executable, "-c", grow, str(tmp_path / "s")], check=True)
        assert keys_of(store) == [b"big", b"small"]
        put(store, b"more")
        assert keys_of(store) == [b"big", b"more", b"small"]


def test_handles_of_one_process_share_a_store(tmp_path: Path) -> None:
    first, second = WideRowStore(tmp_path / "s"), WideRowStore(tmp_path / "s")
    put(first, b"a")
    first.close()
    put(second, b"b")
    assert keys_of(second) == [b"a", b"b"]
    with pytest.raises(ConflictError, match="closed"):
        first.read_row(b"a")
    second.close()
    second.close()
    with WideRowStore(tmp_path / "s", readonly=True) as reader, WideRowStore(tmp_path / "s") as writer:
        put(writer, b"c")
        assert keys_of(reader) == [b"a", b"b", b"c"]


def test_reading_needs_a_store_and_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="row store 'none' does not exist"):
        WideRowStore(tmp_path / "none", readonly=True)
    assert not (tmp_path / "none").exists()
    with WideRowStore(tmp_path / "s") as store:
        put(store, b"a")
    with WideRowStore(tmp_path / "s", readonly=True) as reader, pytest.raises(ConflictError, match="for reading"):
        put(reader, b"b")


def test_a_broken_file_is_corruption(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "data.mdb").write_bytes(b"not a store" * 10_000)
    with pytest.raises(CorruptionError, match="'s' can't be opened"):
        WideRowStore(tmp_path / "s")
