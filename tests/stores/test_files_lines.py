"""Reading lines: shards of whatever size divide a file into its lines, and reading goes on from any position."""

import bz2
import gzip
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import DataError, NotFoundError
from streamflow.stores.files import LineReader, Shard, check_unchanged, lines, list_shards
from streamflow.stores.files import access as access_module

PACK = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}
texts = st.lists(st.sampled_from([b"", b"a", b"bc", b"ddd", b"\xc3\xbc", b"\r"]), max_size=12).map(b"\n".join)


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "READ_BYTES", 3)
    monkeypatch.setattr(access_module, "_PIECE_BYTES", 5)


def read(shard: Shard, lines_max: int, bytes_max: int, *, again: bool = False, **options: Any) -> bytes:
    """All of a shard; `again`: each chunk by a new reader that begins where the one before stopped."""
    reader = LineReader(shard, **options)
    data = b""
    try:
        while not reader.done:
            chunk = reader.read(lines_max, bytes_max)
            assert chunk.data
            assert chunk.line == data.count(b"\n")
            assert not reader.quoted or chunk.data.count(b'"') % 2 == 0
            data += chunk.data
            if again:
                reader.close()
                reader = LineReader(shard, at=reader.at, lines=reader.lines, **options)
    finally:
        reader.close()
    return data


def with_ends(text: bytes) -> list[bytes]:
    """Lines with their ends; unlike `splitlines` only at line feeds."""
    parts = [part + b"\n" for part in text.split(b"\n")]
    parts[-1] = parts[-1][:-1]
    return [part for part in parts if part]


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 9), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2), st.booleans())
def test_shards_divide_a_file_into_its_lines(
    tmp_path_factory: pytest.TempPathFactory,
    text: bytes,
    shard_bytes: int,
    lines_max: int,
    bytes_max: int,
    header: int,
    again: bool,
) -> None:
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes(text)
    shards = list_shards(str(path), "lines", "auto", shard_bytes) if text else []
    parts = [read(shard, lines_max, bytes_max, again=again, header=header) for shard in shards]
    lines_in_file = with_ends(text)
    assert b"".join(parts) == b"".join(lines_in_file[header:])
    before = min(header, text.count(b"\n"))
    for shard, part in zip(shards, parts, strict=True):
        with closing(LineReader(shard, header=header)) as reader:
            assert not part or reader.line_before() == before
        before += part.count(b"\n")


@pytest.mark.parametrize("again", [False, True], ids=["in one go", "from each position"])
@pytest.mark.parametrize("suffix", PACK)
def test_compressed_files_of_several_members_are_read_as_one(tmp_path: Path, suffix: str, again: bool) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACK[suffix](b"one\ntwo\nth") + PACK[suffix](b"ree\nfour"))
    (shard,) = list_shards(str(path), "lines", "auto", 4)
    assert read(shard, 2, 5, again=again) == b"one\ntwo\nthree\nfour"


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_file_that_is_cut_off_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACK[suffix](b"one\ntwo\n" * 100)[:-4])
    (shard,) = list_shards(str(path), "lines", "auto", 1 << 20)
    with pytest.raises(DataError, match="is cut off"):
        read(shard, 1_000, 10_000)


def test_file_that_is_not_compressed_as_its_name_says_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.gz").write_bytes(b"one\ntwo\n")
    (shard,) = list_shards(str(tmp_path / "*.gz"), "lines", "auto", 1 << 20)
    with pytest.raises(DataError, match=r"can't be decompressed.*Is it compressed as its name says"):
        LineReader(shard)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b'"b\nc"', b'"d""\n\n""e",f', b'""', b""]), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 12),
    st.booleans(),
)
def test_quoted_line_ends_end_no_record(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], lines_max: int, bytes_max: int, again: bool
) -> None:
    path = tmp_path_factory.mktemp("quoted") / "text"
    path.write_bytes(b"\n".join([b'"h\nead"', *records]) + b"\n")
    (shard,) = list_shards(str(path), "whole", "auto", 1)
    with closing(LineReader(shard, header=1, quoted=True)) as reader:
        assert reader.header == b'"h\nead"\n'
    data = read(shard, lines_max, bytes_max, again=again, header=1, quoted=True)
    assert data == b"\n".join(records) + b"\n"


def test_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    shards = list_shards(str(tmp_path / "text"), "lines", "auto", 4)
    assert [read(shard, 9, 9) for shard in shards] == [b"one\n", b"two\n", b""]


def test_record_without_end_is_refused_before_it_takes_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "RECORD_BYTES_MAX", 100)
    (tmp_path / "text").write_bytes(b'a\n"b\n' + b"c\n" * 1_000)
    (shard,) = list_shards(str(tmp_path / "text"), "whole", "auto", 1)
    with closing(LineReader(shard, quoted=True)) as reader:
        assert reader.read(1, 1).data == b"a\n"
        with pytest.raises(DataError, match=r"a record of more than 100 bytes, after byte 2\. Is a quote not closed"):
            reader.read(1, 1)


def test_files_of_a_pattern_are_listed_by_path_without_folders_and_empty_ones(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a.txt", "b/c/3.txt", "b/no"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / "empty.txt").touch()

    def names(pattern: str) -> list[str]:
        shards = list_shards(f"{tmp_path}/{pattern}", "lines", "auto", 100)
        return [str(Path(shard.path).relative_to(tmp_path)) for shard in shards]

    assert names("*") == ["a.txt"]
    assert names("**/*.txt") == ["a.txt", "b/2.txt", "b/c/3.txt"]
    with pytest.raises(NotFoundError, match=r"no file matches '.*/b'. It is a folder: write '.*/b/\*'"):
        names("b")
    with pytest.raises(NotFoundError, match=r"no file matches '.*/x\*'"):
        names("x*")


def test_url_is_read_through_fsspec_and_a_change_is_seen() -> None:
    system = fsspec.filesystem("memory")
    for name, text in (("one.txt", b"1\n2\n3\n"), ("two.txt.gz", gzip.compress(b"4\n5\n"))):
        with system.open(f"/lines/{name}", "wb") as file:
            file.write(text)
    shards = list_shards("memory://lines/*.txt*", "lines", "auto", 3)
    assert b"".join(read(shard, 1, 10) for shard in shards) == b"1\n2\n3\n4\n5\n"
    check_unchanged(shards[0])
    with system.open("/lines/one.txt", "ab") as file:
        file.write(b"6\n")
    with pytest.raises(DataError, match=r"one.txt' has changed .* it had 6 bytes, now it has 8"):
        check_unchanged(shards[0])
    system.rm("/lines/one.txt")
    with pytest.raises(NotFoundError, match=r"one.txt' was there when the pipeline was started, and is gone"):
        LineReader(shards[0])
