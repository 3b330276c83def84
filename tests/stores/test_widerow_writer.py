"""Frames into wide rows, exactly once, and what people see of them."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from small_frames import rows

from streamflow.base.errors import DataError, FencedError
from streamflow.stores.widerow import WideRowSpec, WideRowStore, WideRowWriter, row_stores, rows_as_dicts

SPEC = WideRowSpec("s", "f")


def frame(start: int, end: int, **columns: object) -> pl.DataFrame:
    keyed = rows(start, end, **columns).with_columns(_timestamp=pl.col("n") * 1_000_000)
    return keyed if "_row_key" in columns else keyed.with_columns(_row_key=pl.format("r{}", "n"))


def values(root: Path, column: str = "f:n") -> dict[str, object]:
    with WideRowStore(root / "s", readonly=True) as store:
        return {
            row["row"]: cell["value"]
            for row in rows_as_dicts(store)
            for cell in row["cells"]
            if cell["column"] == column
        }


def test_replay_is_skipped_and_overlap_writes_only_the_new_rows(tmp_path: Path) -> None:
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        assert writer.committed() == 0
        assert writer.write(frame(0, 3), end=3, epoch=1) == 3
        assert writer.write(frame(0, 3).with_columns(n=-pl.col("n")), end=3, epoch=1) == 0
        assert writer.write(frame(1, 5), end=6, epoch=1) == 2
        assert writer.committed() == 6
    assert values(tmp_path) == {f"r{n}": n for n in range(5)}


def test_an_empty_frame_moves_the_end(tmp_path: Path) -> None:
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        assert writer.write(frame(0, 0), end=9, epoch=1) == 0
        assert writer.committed() == 9


def test_zombie_is_fenced_and_changes_nothing(tmp_path: Path) -> None:
    with WideRowWriter(tmp_path, SPEC, "app") as zombie, WideRowWriter(tmp_path, SPEC, "app") as owner:
        zombie.write(frame(0, 2), end=2, epoch=1)
        owner.write(frame(2, 4), end=4, epoch=2)
        for start, end in ((2, 4), (2, 6), (6, 6)):
            with pytest.raises(FencedError, match="epoch 2, above 1"):
                zombie.write(frame(start, end), end=end, epoch=1)
        assert owner.committed() == 4
    assert values(tmp_path) == {f"r{n}": n for n in range(4)}


def test_integers_and_floats_are_stored_as_bigtable_has_them(tmp_path: Path) -> None:
    typed = frame(0, 1, text="ü", raw=b"\x00\xff", real=1.5).with_columns(n=pl.lit(-2, pl.Int8))
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        writer.write(typed, end=1, epoch=1)
    with WideRowStore(tmp_path / "s", readonly=True) as store:
        row = store.read_row(b"r0")
        assert row is not None
        newest = {qualifier: cells[0].value for qualifier, cells in row.families["f"].items()}
    assert newest == {
        b"n": (-2).to_bytes(8, "big", signed=True),
        b"real": bytes.fromhex("3ff8000000000000"),
        b"text": "ü".encode(),
        b"raw": b"\x00\xff",
    }


def test_rows_are_shown_with_decoded_values_and_times(tmp_path: Path) -> None:
    shown = frame(0, 1).with_columns(
        yes=pl.lit(True),
        day=pl.lit(date(2024, 1, 2)),
        at=pl.lit(datetime(2024, 1, 2, tzinfo=UTC)),
        many=pl.lit([1, 2]),
        raw=pl.lit(b"\xff"),
        none=pl.lit(None, pl.Int64),
    )
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        writer.write(shown, end=1, epoch=1)
    with WideRowStore(tmp_path / "s", readonly=True) as store:
        (row,) = rows_as_dicts(store)
        assert rows_as_dicts(store, key=b"r0") == [row]
        assert rows_as_dicts(store, key=b"r") == []
        assert rows_as_dicts(store, prefix=b"x") == []
    assert row["row"] == "r0"
    assert {cell["column"]: cell["value"] for cell in row["cells"]} == {
        "f:n": 0,
        "f:yes": True,
        "f:day": "2024-01-02",
        "f:at": "2024-01-02T00:00:00+00:00",
        "f:many": [1, 2],
        "f:raw": "\\xff",
    }
    assert {cell["timestamp"] for cell in row["cells"]} == {"1970-01-01T00:00:00Z"}
    assert row_stores(tmp_path) == ["s"]


def test_a_column_of_another_type_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        writer.write(frame(0, 1), end=1, epoch=1)
        with pytest.raises(DataError, match="column 'f:n' holds int64, got string"):
            writer.write(frame(1, 2).with_columns(n=pl.lit("x"), fresh=1), end=2, epoch=1)
        assert writer.committed() == 1
        writer.write(frame(1, 2).with_columns(n=pl.lit(None, pl.String), fresh=pl.lit(1.5)), end=2, epoch=1)
    assert values(tmp_path) == {"r0": 0}
    assert values(tmp_path, "f:fresh") == {"r1": 1.5}


def test_of_rows_with_one_address_the_highest_offset_counts(tmp_path: Path) -> None:
    same = frame(0, 3, _row_key="r").with_columns(_timestamp=pl.lit(5, pl.Int64)).reverse()
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        writer.write(same, end=3, epoch=1)
    assert values(tmp_path) == {"r": 2}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame(0, 1).drop("_row_key"), "column '_row_key' must be String or Binary"),
        (
            frame(0, 1).with_columns(_row_key=pl.lit(None, pl.String)),
            "'_row_key' must be String or Binary without nulls",
        ),
        (frame(0, 1).with_columns(_timestamp=pl.lit(1.5)), "column '_timestamp' must be Int64"),
        (frame(0, 3), "offset 2, not below the write's end 1"),
        (frame(0, 1).with_columns(n=pl.lit(2**64 - 1, pl.UInt64)), "values above 64 bits signed"),
        (frame(0, 1, _row_key=""), "a row key has 0 bytes"),
    ],
)
def test_frames_that_are_not_as_described_are_refused(tmp_path: Path, bad: pl.DataFrame, message: str) -> None:
    with WideRowWriter(tmp_path, SPEC, "app") as writer:
        with pytest.raises(DataError, match=message):
            writer.write(bad, end=1, epoch=1)
        assert writer.committed() == 0


def test_names_that_can_not_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"row store name '\.\./x'"):
        WideRowSpec("../x", "f")
    with pytest.raises(DataError, match="family 'a b'"):
        WideRowSpec("x", "a b")


def test_check_refuses_an_integer_of_more_than_64_bits_signed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"_offset": [0], "_row_key": ["a"], "_timestamp": [0], "n": [2**63]}).cast({"n": pl.UInt64})
    with WideRowWriter(tmp_path, WideRowSpec("r", "f"), "app") as writer:
        writer.check(frame.with_columns(pl.lit(5, pl.UInt64).alias("n")))
        with pytest.raises(DataError, match="above 64 bits"):
            writer.check(frame)
