"""A process that publishes one sequence after the other until it kills itself at a chosen point, or is
killed.

    crashing_publisher.py FOLDER TOPIC NAME POINT NTH

POINT is one of `POINTS` or "never"; NTH counts how often it is passed before. Run by the tests in a process
of its own.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from streamflow.topics.embedded import EmbeddedLog, segments, topic_rows
from streamflow.topics.publisher import Publisher

POINTS = ("before write", "torn write", "before sync", "after sync", "before commit", "after commit")
EVENTS = 20


def main(folder: str, topic: str, name: str, point: str, nth: int) -> None:
    log = EmbeddedLog(folder)
    publisher = Publisher(log, topic, name=name)
    arm(point, nth)
    print("ready", flush=True)
    sequence = publisher.last_sequence + 1
    while True:
        events = [f"{name}:{sequence}:{n}".encode() for n in range(EVENTS)]
        publisher.publish_batch(events, [sequence] * EVENTS, [str(n) for n in range(EVENTS)], sequence=sequence)
        sequence += 1


def arm(point: str, nth: int) -> None:
    """Put the crash around the real calls; what they do stays as it is."""
    left = nth

    def die(of: str) -> None:
        nonlocal left
        if of == point:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(call: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            die(before)
            result = call(*args)
            die(after)
            return result

        return called

    def torn(fd: int, buffers: Sequence[bytes], position: int) -> int:
        if point == "torn write" and left == 0:
            data = b"".join(buffers)
            os.pwrite(fd, data[: len(data) // 2], position)
        die("torn write")
        return pwritev(fd, buffers, position)

    pwritev = os.pwritev
    os.pwritev = around(torn, "before write", "before sync")
    os.fdatasync = around(os.fdatasync, "", "after sync")
    topic_rows.append = around(topic_rows.append, "", "before commit")
    segments.SegmentWriter.settle = around(segments.SegmentWriter.settle, "after commit", "")  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
