"""The messages of a partition, as a lease machine has to know them: where they are, how big, how old, what they hold.

Offsets here are those of the log: Kafka's times `SPAN`, plus the index of the event within its message. What Kafka
numbers besides messages (marks of transactions, what was aborted, compacted away) is no message.
"""

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from streamflow.topics.kafka.messages import SPAN, Received, envelope, events_in, is_mark, stored
from streamflow.topics.reading import Decoded
from streamflow.topics.subscriptions.running import StoredMessage

CACHE_BYTES_MAX = 32_000_000
"""Messages of one partition that are kept at hand."""
_READ_BYTES = 4_000_000

Fetch = Callable[[int, int, int], Sequence[Received]]
"""(first, stop, max_bytes): the committed messages in `[first, stop)` (Kafka's), at least one if there is any."""
Find = Callable[[int], tuple[int, int] | None]
"""(Kafka's offset, timestamp) of the first message with a timestamp of so many ms or later."""


class MessageIndex:
    """`RecordIndex` of one partition. It reads what it is asked about and has not seen; `begin` and `end` are Kafka's
    bounds of the partition, to be kept up to date from outside. Not for several threads at once."""

    def __init__(self, topic: str, partition: int, fetch: Fetch, find: Find) -> None:
        self._place = topic, partition
        self._fetch, self._find = fetch, find
        self.begin = self.end = 0
        self._first = self._stop = 0
        self._forget()
        self._cache: OrderedDict[int, Received | Decoded] = OrderedDict()
        self._cached_bytes = 0
        self._found: tuple[int, int, int] | None = None

    def bytes_between(self, start: int, end: int) -> int:
        self._cover(start // SPAN, -(-end // SPAN))
        return self._sum(end) - self._sum(start)

    def published_us(self, offset: int) -> int:
        """Of the first message at or after that offset."""
        found = self.first_published_us(offset)
        return 0 if found is None else found

    def first_published_us(self, offset: int) -> int | None:
        """The same; None if there is none."""
        for _ in self.events(offset, self.end * SPAN):
            return int(self._times[bisect_left(self._offsets, offset // SPAN)] * 1000)
        return None

    def offset_at(self, time_us: int) -> int:
        time_ms = -(-time_us // 1000)
        if self.begin == self.end:
            return self.end * SPAN
        if self._found is None or not self._found[0] <= time_ms <= self._found[2]:
            found = self._find(time_ms)
            # All stays as it is until the time of what was found is passed.
            self._found = None if found is None else (time_ms, *found)
        return max(self.begin, self.end if self._found is None else self._found[1]) * SPAN

    def events(self, start: int, end: int) -> Iterator[int]:
        """The offsets of all events in `[start, end)`."""
        first, stop = start // SPAN, min(-(-end // SPAN), self.end)
        step = first
        while step < stop:
            step = self._cover_some(first, stop)
            at = bisect_left(self._offsets, first)
            while at < len(self._offsets) and self._offsets[at] < step:
                base = self._offsets[at] * SPAN
                yield from range(max(base, start), min(base + self._counts[at], end))
                at += 1
            first = step

    def count_between(self, start: int, end: int) -> int:
        """How many events are in `[start, end)`, which ends between messages."""
        self._cover(start // SPAN, -(-end // SPAN))
        number, index = divmod(start, SPAN)
        first, stop = bisect_left(self._offsets, number), bisect_left(self._offsets, end // SPAN)
        partly = first < stop and self._offsets[first] == number
        return int(sum(self._counts[first:stop])) - (min(index, int(self._counts[first])) if partly else 0)

    def all_single(self, start: int, end: int) -> bool:
        """Whether each message in `[start, end)` holds one event."""
        self._cover(start // SPAN, -(-end // SPAN))
        first, stop = (bisect_left(self._offsets, -(-each // SPAN)) for each in (start, end))
        return start % SPAN == 0 and set(self._counts[first:stop]) <= {0, 1}

    def forget_before(self, offset: int) -> None:
        """It is unlikely to be asked about any more."""
        at = bisect_left(self._offsets, offset // SPAN)
        if at > len(self._offsets) // 2:
            for column in (self._offsets, self._counts, self._sizes, self._times):
                del column[:at]
            self._first = offset // SPAN

    def at(self, offsets: Iterable[int]) -> list[StoredMessage]:
        """Those of them that are kept, in the order given; cheapest if that rises."""
        found = []
        for offset in offsets:
            number, index = divmod(offset, SPAN)
            message = self._cached(number)
            if isinstance(message, Decoded):
                if index < message.end - message.first:
                    found.append(message.message(self._place[1], offset))
            elif message is not None and index == 0:
                found.append(stored(self._place[1], message))
        return found

    def _cached(self, number: int) -> "Received | Decoded | None":
        if number not in self._cache and self.begin <= number < self.end:
            for message in self._fetch(number, self.end, _READ_BYTES):
                self._keep(message)
        found = self._cache.get(number)
        if found is not None and not isinstance(found, Decoded):
            record = envelope(*self._place, found)
            if record is not None:
                found = self._cache[number] = Decoded(record)
        return found

    def _keep(self, message: Received) -> None:
        if message.offset in self._cache:
            return
        self._cache[message.offset] = message
        self._cached_bytes += len(message.value or b"")
        while self._cached_bytes > CACHE_BYTES_MAX and len(self._cache) > 1:
            _, gone = self._cache.popitem(last=False)
            self._cached_bytes -= gone.size if isinstance(gone, Decoded) else len(gone.value or b"")

    def _cover(self, first: int, stop: int) -> None:
        stop = min(stop, self.end)
        while self._cover_some(first, stop) < stop:
            pass

    def _cover_some(self, first: int, stop: int) -> int:
        """Read on towards `stop`, from `first` on; up to where it is known now."""
        first = max(first, self.begin)
        if first >= stop:
            return stop
        if first < self._first or first > self._stop:
            self._forget()
            self._first = self._stop = first
        if self._stop >= stop:
            return stop
        messages = self._fetch(self._stop, stop, _READ_BYTES)
        for message in messages:
            self._offsets.append(message.offset)
            self._counts.append(0 if is_mark(message) else events_in(message))
            self._sizes.append(self._total)
            self._times.append(message.timestamp)
            self._total += len(message.value or b"")
            self._keep(message)
        self._stop = messages[-1].offset + 1 if messages else stop
        return self._stop

    def _forget(self) -> None:
        self._offsets: array[Any] = array("q")
        self._counts: array[Any] = array("q")
        self._sizes: array[Any] = array("q")  # of all before
        self._times: array[Any] = array("q")
        self._total = 0

    def _sum(self, offset: int) -> int:
        number, index = divmod(offset, SPAN)
        at = bisect_left(self._offsets, number)
        if at == len(self._offsets):
            return self._total
        before: int = self._sizes[at]
        count = self._counts[at]
        if index == 0 or self._offsets[at] != number or count == 0:
            return before
        following = self._sizes[at + 1] if at + 1 < len(self._sizes) else self._total
        return int(before + (following - before) * min(index, count) // count)
