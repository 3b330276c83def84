"""Finding and opening files: local paths, and URLs (`s3://…`, `gs://…`, `memory://…`) through fsspec, which is loaded
when the first of these is met.

Compressed files are inflated as they are read. One that ends before its data does is an error, never a short file.
"""

import bz2
import glob
import io
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

from streamflow.base.errors import DataError, NotFoundError, PipelineError

Compression = Literal["auto", "uncompressed", "gzip", "zstd", "bzip2"]
_SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}
_PIECE_BYTES = 16 << 10
"""Compressed bytes that are inflated at once: bounds what they can become."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """`stamp`: changes when the file does, as far as its file system tells: time of change, or entity tag."""

    path: str
    size: int
    stamp: str


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def compression_of(path: str, compression: Compression) -> Compression:
    """What 'auto' means for this path: told by its suffix."""
    return _SUFFIXES.get(os.path.splitext(path)[1].lower(), "uncompressed") if compression == "auto" else compression


def local(path: str) -> str:
    return os.path.abspath(path.removeprefix("file://"))


def find(pattern: str) -> list[FileInfo]:
    """The files that the pattern matches (`*`, `?`, `[…]`; `**` for any folders), by path. NotFoundError if there are
    none."""
    if is_remote(pattern):
        system, inner = remote(pattern)
        names = system.glob(inner) if glob.has_magic(inner) else [inner]
        scheme = pattern.split("://")[0]
        infos = [_remote_info(system, name, f"{scheme}://{name.lstrip('/')}") for name in names]
    else:
        full = local(pattern)
        paths = glob.glob(full, recursive=True) if not os.path.exists(full) else [full]
        infos = [_local_info(path) if os.path.isfile(path) else None for path in paths]
    found = sorted((info for info in infos if info is not None), key=lambda info: info.path)
    if not found:
        a_folder = not is_remote(pattern) and os.path.isdir(local(pattern))
        hint = f"It is a folder: write '{pattern.rstrip('/')}/*'" if a_folder else "Is the path right, and readable?"
        raise NotFoundError(f"no file matches '{pattern}'. {hint}")
    return found


def look(path: str) -> FileInfo:
    """The file as it is now. NotFoundError if it is gone."""
    if is_remote(path):
        system, inner = remote(path)
        info = _remote_info(system, inner, path)
    else:
        info = _local_info(path)
    if info is None:
        raise gone(path)
    return info


def gone(path: str) -> NotFoundError:
    return NotFoundError(
        f"file '{path}' was there when the pipeline was started, and is gone. Put it back, or reset the pipeline to "
        "list its files anew"
    )


def open_at(path: str, at: int = 0, compression: Compression = "uncompressed") -> "ByteStream":
    """The file's (inflated) bytes from position `at` on. NotFoundError if it is gone."""
    raw = _opened(path)
    if compression == "uncompressed":
        raw.seek(at)
        return raw
    stream = _Inflated(path, raw, _inflaters(compression))
    while at > 0 and (piece := stream.read(min(at, 1 << 20))):
        at -= len(piece)
    return stream


def _opened(path: str) -> BinaryIO:
    try:
        if not is_remote(path):
            return Path(path).open("rb")
        system, inner = remote(path)
        return cast(BinaryIO, system.open(inner, "rb"))
    except FileNotFoundError as error:
        raise gone(path) from error


def fetch(path: str, folder: Path) -> Path:
    """A local copy of a remote file, in `folder`."""
    system, inner = remote(path)
    target = folder / os.path.basename(inner)
    try:
        system.get_file(inner, str(target))
    except FileNotFoundError as error:
        raise gone(path) from error
    return target


class ByteStream(Protocol):
    def read(self, size: int, /) -> bytes:
        """At least one byte and at most `size`, unless the file is at its end."""

    def close(self) -> None: ...


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Inflated:
    """A compressed file, whose members or frames follow each other."""

    def __init__(self, path: str, raw: BinaryIO, new: Callable[[], _Inflater]) -> None:
        self._path, self._raw, self._new = path, raw, new
        self._inflater: _Inflater | None = None
        self._ready = io.BytesIO()

    def read(self, size: int) -> bytes:
        while not (piece := self._ready.read(size)):
            packed = self._raw.read(_PIECE_BYTES)
            if not packed:
                if self._inflater is not None:
                    raise DataError(f"file '{self._path}' is cut off: its compressed data has no end. Copy it again")
                return b""
            self._ready = io.BytesIO(self._inflate(packed))
        return piece

    def _inflate(self, packed: bytes) -> bytes:
        parts: list[bytes] = []
        while packed:
            if self._inflater is None:
                # Between members there may be padding.
                packed = packed.lstrip(b"\0")
                if not packed:
                    break
                self._inflater = self._new()
            try:
                parts.append(self._inflater.decompress(packed))
            except Exception as error:
                raise DataError(
                    f"file '{self._path}' can't be decompressed: {error}. Is it compressed as its name says?"
                ) from error
            packed = b""
            if self._inflater.eof:
                packed, self._inflater = self._inflater.unused_data, None
        return b"".join(parts)

    def close(self) -> None:
        self._raw.close()


def _inflaters(compression: Compression) -> Callable[[], Any]:
    """What makes the `_Inflater` of each member."""
    if compression == "gzip":
        return partial(zlib.decompressobj, wbits=31)
    if compression == "bzip2":
        return bz2.BZ2Decompressor
    return partial(zstandard().ZstdDecompressor().decompressobj)


def zstandard() -> Any:
    """The library; PipelineError if it is not installed."""
    try:
        import zstandard as library
    except ImportError as error:
        raise PipelineError("zstd files need an extra. Install it: pip install 'streamflow[files]'") from error
    return library


def remote(path: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. PipelineError if what reaches it is not installed."""
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise PipelineError(f"'{path}' needs an extra. Install it: pip install 'streamflow[files]'") from error
    try:
        system, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise PipelineError(f"'{path}' can't be reached: {error}. Install the library that fsspec names") from error
    return system, inner


def _local_info(path: str) -> FileInfo | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return FileInfo(path, stat.st_size, str(stat.st_mtime_ns))


def _remote_info(system: Any, inner: str, path: str) -> FileInfo | None:
    # Listings are kept by fsspec, which would hide a change.
    system.invalidate_cache()
    try:
        info = system.info(inner)
    except FileNotFoundError:
        return None
    if info.get("type") == "directory":
        return None
    known = (
        info.get(name) for name in ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")
    )
    return FileInfo(path, int(info["size"]), str(next((stamp for stamp in known if stamp is not None), "")))
