"""Processes of this machine: whether one is alive, and whether it is still the same one (from /proc); and how this one
deals with its memory. Linux only."""

import ctypes
import os
from contextlib import suppress

from streamflow.topics.protocol import WorkerInfo


def started_at(pid: int) -> float:
    """When the process was started, in clock ticks since boot; 0.0 if there is none (a zombie counts as none)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The command may hold spaces and brackets; what follows its last ')' is plain.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 0.0 if fields[0] in (b"Z", b"X") else float(fields[19])


def is_alive(worker: WorkerInfo) -> bool:
    """The very process that joined is still there."""
    return started_at(worker.pid) == worker.process_started and worker.process_started > 0


MEMORY_SHARE = 0.9
"""Of what there is, how much one process may take: what is left is for the end of its step."""
_CGROUP_LIMIT = "/sys/fs/cgroup/memory.max"


def memory_bytes() -> int:
    """What this process holds in memory now, shared pages of files left out."""
    with open("/proc/self/statm", "rb") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def memory_bytes_max() -> int:
    """What one process may hold before it is better replaced: nearly all that its cgroup or else the machine has."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError), open(_CGROUP_LIMIT, encoding="ascii") as limit:
        limits.append(int(limit.read()))
    return int(MEMORY_SHARE * min(limits))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MADV_DONTNEED = 4
_KEPT_BYTES_MAX = 128 << 20
_BLOCK_BYTES_MAX = 32 << 20
"""The most that glibc allows; also what a step reads at most, and so what its largest buffers have."""


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to a bound, for what it needs next.

    By default glibc gives blocks of megabytes back at once, and each new one costs a page fault per 4 KiB: to encode a
    frame of some megabytes took four times as long. Without glibc nothing changes."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)


def give_back_memory() -> None:
    """What was kept and is free goes back to the system, and pages of libraries are no longer counted as this process's
    until it needs them again: they stay in the system's cache, and a start maps far more of them than an idle process
    ever looks at. To map one again takes a microsecond."""
    libc = ctypes.CDLL(None)
    if (malloc_trim := getattr(libc, "malloc_trim", None)) is not None:
        malloc_trim(0)
    for begin, end in _library_pages():
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


def _library_pages() -> list[tuple[int, int]]:
    """Where code and constants of libraries are mapped: private, not writable, and nowhere other than in the file, so
    that to forget them loses nothing. From /proc/self/smaps."""
    found: list[tuple[int, int]] = []
    place: tuple[int, int] | None = None
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as smaps:
        for line in smaps:
            name, *rest = line.split()
            if name == "Anonymous:" and place is not None:
                found += [place] if rest[0] == "0" else []
            elif not name.endswith(":"):
                begin, _, end = name.partition("-")
                is_library = len(rest) >= 5 and rest[0] in ("r-xp", "r--p") and rest[4].startswith("/")
                place = (int(begin, 16), int(end, 16)) if is_library else None
    return found
