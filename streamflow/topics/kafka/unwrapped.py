"""Messages as aiokafka's decoder makes them, without the object that aiokafka puts around each: that takes half of what
reading costs. It reaches into aiokafka's fetcher; this file alone does, and only in versions whose inside it knows.

Everything else stays aiokafka's: batches, checksums, aborted transactions, positions.
"""

import gc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer

KNOWN = ("0.14.",)
"""Versions. With another, messages come wrapped: slower, and the same."""


def unwrap(consumer: AIOKafkaConsumer) -> bool:
    """Let a consumer that has been started, and has not read yet, give bare messages: offset, timestamp, key, value
    and headers. False if it goes on giving aiokafka's own."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if not aiokafka.__version__.startswith(KNOWN) or type(getattr(fetcher, "_records", None)) is not OrderedDict:
        return False
    fetcher._records = _Fetched(fetcher._records)
    return True


@contextmanager
def collecting_later() -> Iterator[None]:
    """Many messages are made at once, live for a moment and form no cycles: looking for such in them again and again
    while they are made would take a third of what reading costs. What is unreachable is freed as ever."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Fetched(OrderedDict[Any, Any]):
    """What the fetcher has ready for each partition. Errors are there too, and stay as they are."""

    def __setitem__(self, place: Any, result: Any) -> None:
        messages = getattr(result, "_partition_records", None)
        if messages is not None:
            messages._consumer_record = _bare
        super().__setitem__(place, result)


def _bare(place: Any, message: Any) -> Any:
    return message
