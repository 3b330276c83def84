"""Files as a sink: each offset in just one file, whenever the writer dies and whoever else writes."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from streamflow.base.errors import DataError, FencedError
from streamflow.stores.files import FileSpec, FileWriter, writer


def rows(begin: int, end: int) -> pl.DataFrame:
    return pl.DataFrame({"_offset": range(begin, end), "n": range(begin, end)})


def stored(folder: Path) -> list[int]:
    return [int(line) for path in sorted(folder.glob("out*")) for line in path.read_text().splitlines()]


def open_writer(folder: Path, app: str = "p.out") -> FileWriter:
    return FileWriter(FileSpec(str(folder / "out"), ".csv", "csv", header=False), app)


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("call", ["fsync", "rename", "sync_path"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_line_leaves_each_row_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    """The next one repeats what was not committed, in a step of another size."""
    target: Any = writer if call == "sync_path" else os
    done: Callable[..., Any] = getattr(target, call)
    first = open_writer(tmp_path)
    first.write(rows(0, 3), 3)

    def dies(*arguments: Any) -> None:
        if after:
            done(*arguments)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(target, call, dies)
        with pytest.raises(Died):
            first.write(rows(3, 5), 5)
    second = open_writer(tmp_path)
    assert second.committed() in (3, 5)
    second.write(rows(3, 8), 8)
    assert stored(tmp_path) == list(range(8))
    assert list(tmp_path.glob(".*.draft")) == []


def test_former_holder_that_wakes_up_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the other one has written meanwhile, or has only begun to hold the sink."""
    former = open_writer(tmp_path)
    former.write(rows(0, 2), 2)
    successor = open_writer(tmp_path)
    successor.write(rows(2, 4), 4)
    with pytest.raises(FencedError, match="continued by another writer"):
        former.write(rows(2, 6), 6)
    assert stored(tmp_path) == [0, 1, 2, 3]
    real = os.fsync

    def taken_over(descriptor: int) -> None:
        real(descriptor)
        open_writer(tmp_path)

    monkeypatch.setattr(os, "fsync", taken_over)
    with pytest.raises(FencedError):
        successor.write(rows(4, 6), 6)
    assert stored(tmp_path) == [0, 1, 2, 3]


def test_rows_that_are_stored_already_are_skipped_and_nothing_gives_no_file(tmp_path: Path) -> None:
    sink = open_writer(tmp_path)
    assert [sink.write(rows(0, 3), 3), sink.write(rows(0, 3), 3), sink.write(rows(1, 5), 5)] == [3, 0, 2]
    assert sink.write(rows(5, 5), 9) == 0
    names = [path.name for path in sorted(tmp_path.glob("out*"))]
    assert names == ["out-p.out-000000000000-000000000003.csv", "out-p.out-000000000003-000000000005.csv"]


def test_sinks_of_one_prefix_keep_apart(tmp_path: Path) -> None:
    one, other = open_writer(tmp_path, "p.out"), open_writer(tmp_path, "p.out-2")
    one.write(rows(0, 3), 3)
    assert (open_writer(tmp_path, "p.out").committed(), open_writer(tmp_path, "p.out-2").committed()) == (3, 0)
    other.write(rows(0, 2), 2)
    assert sorted(stored(tmp_path)) == [0, 0, 1, 1, 2]


def test_formats_hold_what_was_written(tmp_path: Path) -> None:
    frame = pl.DataFrame({"_offset": [0, 1], "line": ["ü", "b"], "n": [1, None]})
    plain = frame.drop("_offset")
    for name, spec in {
        "t": FileSpec(str(tmp_path / "t"), ".txt.gz", "text", header="head"),
        "c": FileSpec(str(tmp_path / "c"), ".csv.zst", "csv"),
        "j": FileSpec(str(tmp_path / "j"), ".ndjson", "json", "gzip"),
        "p": FileSpec(str(tmp_path / "p"), ".parquet", "parquet"),
    }.items():
        FileWriter(spec, name).write(frame, 2)
    files = {path.name[0]: path for path in tmp_path.glob("[!.]*")}
    assert gzip.decompress(files["t"].read_bytes()).decode() == "head\nü\nb\n"
    assert zstandard.decompress(files["c"].read_bytes()).decode() == "line,n\nü,1\nb,\n"
    assert pl.read_ndjson(gzip.decompress(files["j"].read_bytes())).equals(plain)
    assert pl.read_parquet(files["p"]).equals(plain)


def test_what_a_format_has_no_form_for_is_refused_by_name(tmp_path: Path) -> None:
    sink = open_writer(tmp_path)
    with pytest.raises(DataError, match=r"column 'xs' is List\(Int64\), which csv can't hold"):
        sink.check(pl.DataFrame({"_offset": [0], "xs": [[1]]}))
    with pytest.raises(DataError, match="the rows have no columns"):
        sink.check(pl.DataFrame({"_offset": [0]}))
