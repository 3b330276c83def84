"""Segment files: append entries, make them durable, read them back checked. Knows no topic, offset or
transaction.

A segment is written by one handle, which holds an flock on it from its creation until nothing more can be
appended to it. So writers never contend, and a file that can be locked by someone else is finished, also
after a crash.

An entry is a fixed little-endian header, then the payload:

    magic "sfE2" | kind u8 | 3 zero bytes | count u32 | time_min_us i64 | time_max_us i64 | length u64 |
    checksum u64

The checksum is XXH3-64 of the header before it and the payload (five times as fast as zlib's CRC-32 here). The version
is the last character of the magic.
"""

import errno
import fcntl
import itertools
import mmap
import os
import secrets
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_64

from streamflow.base.errors import CorruptionError, NoSpaceError

SUFFIX = ".seg"
ROLL_BYTES = 64 << 20
"""A file is the unit of deletion: small enough to go soon, large enough that few are open."""

_MAGIC = b"sfE2"
_HEADER = struct.Struct("<4sB3xIqqQ")
_CHECKSUM = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size

_ZERO_AHEAD_MIN_BYTES = 64 << 10
_ZERO_AHEAD_MAX_BYTES = 1 << 20
_BUFFERS_PER_WRITE = 512
"""Linux takes at most 1,024 buffers in one pwritev."""
_COALESCE_BYTES_MAX = 16 << 20
"""Bounds what one mapping of neighbouring entries holds."""
_OPEN_READERS_MAX = 128
"""Well under the usual limit of 1,024 descriptors."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one header and its payload say. State segments use kind 0, count 0 and (stamp, watermark) as times. The
    payload of an entry that was read is a view of the mapped file."""

    kind: int
    count: int
    time_min_us: int
    time_max_us: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is: `path` relative to the root; `length` of the payload, header not counted."""

    path: str
    position: int
    length: int

    @property
    def end(self) -> int:
        return self.position + HEADER_BYTES + self.length


class SegmentWriter:
    """The files one handle appends to, one series for each folder. Not thread-safe: the log's write lock guards it."""

    def __init__(self, root: Path, roll_bytes: int = ROLL_BYTES) -> None:
        self._root = root
        self._roll_bytes = roll_bytes
        self._writer = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._open: dict[str, _OpenSegment] = {}
        self._full: list[_OpenSegment] = []

    def write(self, entries: Sequence[tuple[str, Entry]]) -> list[Place]:
        """Append each entry to the series of its folder; durable on return. NoSpaceError if the disk is full, OSError
        if it refuses for another reason."""
        places: list[Place] = []
        touched: dict[str, _OpenSegment] = {}
        with _told_no_space(self._root):
            for folder, entry in entries:
                segment = self._segment(folder, HEADER_BYTES + len(entry.payload))
                touched[segment.path] = segment
                places.append(segment.add(entry))
            for segment in touched.values():
                try:
                    segment.flush()
                except OSError:
                    # After a failed sync the kernel may call lost pages clean: nothing of this file can be trusted.
                    self._drop(segment)
                    raise
        return places

    def settle(self) -> None:
        """Call after the transaction that refers to everything written so far: lets go of the files that are full."""
        for segment in self._full:
            segment.close()
        self._full.clear()

    def paths(self) -> list[str]:
        """Of the files that are open for appending."""
        return [segment.path for segment in self._open.values()]

    def finish(self, path: str) -> None:
        """Append no more to that file, so that it can be deleted."""
        for segment in [each for each in self._open.values() if each.path == path]:
            self._drop(segment)

    def close(self) -> None:
        self.settle()
        for segment in self._open.values():
            segment.close()
        self._open.clear()

    def _segment(self, folder: str, size: int) -> "_OpenSegment":
        current = self._open.get(folder)
        if current is not None and current.size and current.size + size > self._roll_bytes:
            self._full.append(current)
            current = None
        if current is None:
            path = f"{folder}/{self._writer}-{next(self._numbers)}{SUFFIX}"
            current = self._open[folder] = _OpenSegment(self._root, path)
        return current

    def _drop(self, segment: "_OpenSegment") -> None:
        self._open = {folder: each for folder, each in self._open.items() if each is not segment}
        segment.close()


class _OpenSegment:
    """One file, created here, locked until `close`."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.size = 0
        self._flushed = self._zeroed = 0
        self._pending: list[bytes | memoryview] = []
        self._fd = _create_locked(root / path)

    def add(self, entry: Entry) -> Place:
        header = _HEADER.pack(_MAGIC, entry.kind, entry.count, entry.time_min_us, entry.time_max_us, len(entry.payload))
        self._pending += (header + _checksum(header, entry.payload), entry.payload)
        place = Place(self.path, self.size, len(entry.payload))
        self.size = place.end
        return place

    def flush(self) -> None:
        self._zero_ahead()
        self._zeroed = max(self._zeroed, self.size)
        _write_at(self._fd, self._pending, self._flushed)
        os.fdatasync(self._fd)
        self._pending.clear()
        self._flushed = self.size

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if self._zeroed > self._flushed:
                os.ftruncate(fd, self._flushed)
        finally:
            os.close(fd)

    def _zero_ahead(self) -> None:
        # Writing into blocks that exist spares fdatasync the journal: half the time for small entries. Unwritten
        # blocks from fallocate do not help, they are converted through the journal too.
        if self.size > self._zeroed and self.size - self._flushed < _ZERO_AHEAD_MAX_BYTES:
            ahead = min(_ZERO_AHEAD_MAX_BYTES, max(_ZERO_AHEAD_MIN_BYTES, self.size))
            # Known before it is done: if it fails half-way, what is there goes again.
            self._zeroed = self.size + ahead
            _write_at(self._fd, [bytes(ahead)], self.size)


def no_space(folder: Path) -> NoSpaceError:
    return NoSpaceError(
        f"there is no space left for the log in '{folder}'. Free some; what waits then goes on by itself"
    )


@contextmanager
def _told_no_space(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(folder) from error
        raise


class SegmentReader:
    """Reads entries of any process's segments. Thread-safe; keeps recently used files open."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _ReadFile] = OrderedDict()

    def read(self, places: Sequence[Place]) -> list[Entry]:
        """The entries at `places`, in that order; neighbours are fetched together.

        FileNotFoundError if a file is gone; CorruptionError if an entry is not what was written.
        """
        entries: list[Entry] = []
        for run in _runs(places):
            path, start = run[0].path, run[0].position
            data = _mapped(self._file(path).fd, start, run[-1].end - start)
            entries.extend(_parse(data, place.position - start, place) for place in run)
        return entries

    def close(self) -> None:
        with self._lock:
            self._files.clear()

    def _file(self, path: str) -> "_ReadFile":
        with self._lock:
            found = self._files.get(path)
            if found is None:
                self._forget_deleted()
                found = self._files[path] = _ReadFile(self._root / path)
                if len(self._files) > _OPEN_READERS_MAX:
                    self._files.popitem(last=False)
            self._files.move_to_end(path)
            return found

    def _forget_deleted(self) -> None:
        # An open descriptor keeps a pruned file's blocks on the disk.
        for path in [path for path, file in self._files.items() if not os.fstat(file.fd).st_nlink]:
            del self._files[path]


class _ReadFile:
    """A descriptor that closes when its last user lets go of it, so that eviction can't hit a read under way."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def delete_if_finished(root: Path, path: str, still_needed: Callable[[str], bool]) -> int:
    """Delete a segment unless its writer lives or `still_needed` says so; bytes freed.

    `still_needed` is asked while the file is locked: its writer has then published all it ever will.
    """
    try:
        fd = os.open(root / path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if still_needed(path):
            return 0
        freed = os.fstat(fd).st_size
        os.unlink(root / path)
        return freed
    except (BlockingIOError, FileNotFoundError):
        return 0
    finally:
        os.close(fd)


def segment_paths(root: Path, folder: str) -> Iterator[str]:
    """Every segment below `root/folder`, relative to `root`."""
    paths: list[Path] = []
    for series in (root / folder).glob("*"):
        with suppress(FileNotFoundError):  # another process's pruning removed it in between
            paths += series.glob(f"*{SUFFIX}")
    for path in sorted(paths):
        yield path.relative_to(root).as_posix()


def _create_locked(path: Path) -> int:
    """A new file that is locked and that survives a power cut as an empty one."""
    while True:
        new_folder = not path.parent.is_dir()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # pruning removed the empty folder in between
        except FileExistsError:
            if path.exists() or path.parent.is_file():
                raise
            continue  # as above, while mkdir looked whether what exists is a folder
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            break
        os.close(fd)  # pruning saw it before it was locked
    sync_folder(path.parent)
    if new_folder:
        sync_folder(path.parent.parent)
        sync_folder(path.parent.parent.parent)
    return fd


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_at(fd: int, buffers: Sequence[bytes | memoryview], position: int) -> None:
    for first in range(0, len(buffers), _BUFFERS_PER_WRITE):
        batch = buffers[first : first + _BUFFERS_PER_WRITE]
        total = sum(map(len, batch))
        done = os.pwritev(fd, batch, position)
        if done < total:
            rest = memoryview(b"".join(batch))
            while done < total:
                done += os.pwrite(fd, rest[done:], position + done)
        position += total


def _mapped(fd: int, position: int, size: int) -> memoryview:
    """The bytes from `position` on, without a copy; fewer if the file ends before. They stay readable when the file is
    deleted, and count as resident memory only as long as a view of them is held."""
    # Beyond the end of a file a mapping can be made, but not be read.
    size = min(size, os.fstat(fd).st_size - position)
    if size <= 0:
        return memoryview(b"")
    ahead = position % mmap.ALLOCATIONGRANULARITY
    mapping = mmap.mmap(
        fd, ahead + size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ, offset=position - ahead
    )
    return memoryview(mapping)[ahead:]


def _runs(places: Sequence[Place]) -> Iterator[list[Place]]:
    run: list[Place] = []
    for place in places:
        if run and (
            place.path != run[0].path
            or place.position != run[-1].end
            or place.end - run[0].position > _COALESCE_BYTES_MAX
        ):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _parse(data: memoryview, start: int, place: Place) -> Entry:
    body = start + HEADER_BYTES
    if len(data) < body + place.length:
        raise _corrupt(place, "the file ends before it")
    magic, kind, count, time_min_us, time_max_us, length = _HEADER.unpack_from(data, start)
    if magic != _MAGIC or length != place.length:
        raise _corrupt(place, "no entry of that length begins there")
    payload = data[body : body + length]
    header_end = start + _HEADER.size
    if data[header_end:body] != _checksum(data[start:header_end], payload):
        raise _corrupt(place, "its checksum does not match")
    return Entry(kind, count, time_min_us, time_max_us, payload)


def _checksum(header: bytes | memoryview, payload: bytes | memoryview) -> bytes:
    hashed = xxh3_64(header)
    hashed.update(payload)
    return _CHECKSUM.pack(hashed.intdigest())


def _corrupt(place: Place, reason: str) -> CorruptionError:
    return CorruptionError(
        f"entry at byte {place.position} of segment '{place.path}' is damaged: {reason}. "
        "Restore the file from a copy, or move the readers past it"
    )
