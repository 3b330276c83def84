"""How processes on one folder wake each other: a file that is written to after each commit, and inotify watches on it.

No truth is here: a missed signal costs time, never correctness.
"""

import ctypes
import os
import select
import threading
from contextlib import suppress
from pathlib import Path

FILE = "streamflow.signal"

_IN_MODIFY = 0x2
_EVENT_BYTES = 16
"""An event about the watched file itself carries no name. The kernel merges equal ones that were not read yet."""


class Signal:
    """One handle's side: `send` to all who wait, `wait` for any. Thread-safe; threads that wait at once share what
    arrives. A handle that never waits takes no watch: a user has 128 of them by default."""

    def __init__(self, folder: Path, *, readonly: bool) -> None:
        """OSError if the file can't be made; one that may only be read can be waited for, not sent to."""
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._closed = False
        self._watch: int | None = None
        self._file = -1 if readonly else os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def send(self) -> None:
        # Nothing depends on what is written, nor on its being durable. A full disk can't refuse a block that exists.
        with suppress(OSError):
            os.pwrite(self._file, b"!", 0)

    def arm(self) -> bool:
        """Begin to notice; what is sent from now on ends a `wait`. False if this system gives no watch."""
        with self._lock:
            if self._watch is None and not self._closed:
                self._watch = _watch(self._path)
            return self._watch is not None

    def wait(self, timeout_s: float) -> bool:
        """Whether anything was sent since this last returned True, waiting for it up to that long."""
        watch = self._watch
        if watch is None:
            return False
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        # Rounded up: a wait that ends too early would be repeated at once.
        if not poll.poll(int(timeout_s * 1e3) + (timeout_s > 0)):
            return False
        with self._lock, suppress(BlockingIOError):  # another thread was faster
            if not self._closed:
                os.read(watch, 64 * _EVENT_BYTES)
        return True

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for descriptor in (self._file, self._watch):
                if descriptor is not None and descriptor >= 0:
                    os.close(descriptor)
            self._file, self._watch = -1, None


def _watch(path: Path) -> int | None:
    """A non-blocking inotify descriptor on the file; None where there is none to be had.

    Called through ctypes: the small libraries for it start `ldconfig` in each process to find libc, and block when two
    threads wait on one descriptor."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor
