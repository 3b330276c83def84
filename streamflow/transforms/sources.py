"""Bounded sources of a user's own, as in Apache Beam: what can be split into ranges that are read apart.

    class Numbers(BoundedSource):
        def estimate_size(self): …                                    # in bytes, about
        def split(self, desired_bundle_size, start_position=None, stop_position=None): …   # gives SourceBundles
        def get_range_tracker(self, start_position, stop_position): …
        def read(self, range_tracker): …                              # yields elements as long as it may claim them

    pipeline | Read(Numbers())

A source is split once, when the pipeline begins; each bundle is read by one task, whole, and again after a crash.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.transforms.collections import Create, Reshuffle
from streamflow.transforms.elementwise import FlatMap

BUNDLE_BYTES = 1 << 26
"""About how much of a source is one bundle; its elements are in memory together."""


class SourceBundle(NamedTuple):
    """A part of a source. `weight`: how much it is, beside others of the same source."""

    weight: float
    source: "BoundedSource"
    start_position: Any
    stop_position: Any


class RangeTracker:
    """Says of a range which positions a reader may still claim. A position at which records begin that can be read for
    themselves is a split point."""

    def start_position(self) -> Any:
        raise PipelineError(f"{type(self).__name__} must define start_position().")

    def stop_position(self) -> Any:
        raise PipelineError(f"{type(self).__name__} must define stop_position().")

    def try_claim(self, position: Any) -> bool:
        raise PipelineError(f"{type(self).__name__} must define try_claim(position).")

    def set_current_position(self, position: Any) -> None:
        """For a record at no split point: it belongs to what was claimed before."""
        raise PipelineError(f"{type(self).__name__} must define set_current_position(position).")


class OffsetRangeTracker(RangeTracker):
    """A range `[start, stop)` of numbers, which are claimed in ascending order: PipelineError otherwise."""

    OFFSET_INFINITY = float("inf")

    def __init__(self, start: int, end: float) -> None:
        for offset in (start, end):
            if offset is None or (not isinstance(offset, int) and offset != self.OFFSET_INFINITY):
                raise PipelineError(f"offsets are integers, not {offset!r}.")
        if start > end:
            raise PipelineError(f"the range [{start}, {end}) ends before it begins.")
        self._start, self._stop = start, end
        self._last: float = -1
        self._claimed: float = -1
        self.last_attempted_record_start: float = -1

    def start_position(self) -> int:
        return self._start

    def stop_position(self) -> float:
        return self._stop

    @property
    def last_record_start(self) -> float:
        """Where the last record began; -1 before any."""
        return self._last

    def try_claim(self, record_start: int) -> bool:
        """Whether the record that begins there may be read."""
        if record_start <= self.last_attempted_record_start or record_start < self._start:
            raise PipelineError(
                f"offset {record_start} is before {max(self._start, self.last_attempted_record_start + 1)}, where the "
                "next record may begin. Claim them in ascending order."
            )
        self.last_attempted_record_start = record_start
        if record_start >= self._stop:
            return False
        self._last = self._claimed = record_start
        return True

    def set_current_position(self, record_start: int) -> None:
        if self._claimed < 0 or record_start < self._last:
            raise PipelineError(f"offset {record_start} is before what was claimed. Claim a split point first.")
        self._last = record_start

    def try_split(self, split_offset: int) -> tuple[int, float] | None:
        """Ends the range there: gives the offset, and which part of the range is left. None if that is not possible,
        because nothing was claimed yet, or what lies there has been."""
        if self._stop == self.OFFSET_INFINITY or self._claimed < 0 or not self._last < split_offset < self._stop:
            return None
        left = (split_offset - self._start) / (self._stop - self._start)
        self._stop = split_offset
        return split_offset, left

    def fraction_consumed(self) -> float:
        """Which part of the range lies before the last record, 0 to 1."""
        size = self._stop - self._start
        if self._claimed < 0 or size in (0, self.OFFSET_INFINITY):
            return 0.0
        return min(1.0, (self._last - self._start) / size)

    def position_at_fraction(self, fraction: float) -> int:
        """The first offset behind that part of the range."""
        if self._stop == self.OFFSET_INFINITY:
            raise PipelineError("a range without an end has no parts.")
        return int(-(-(self._start + fraction * (self._stop - self._start)) // 1))


class BoundedSource:
    """What `Read` reads. All methods are called in tasks, so it must be possible to pickle it."""

    def estimate_size(self) -> int | None:
        """About how many bytes it has; None if that is not known."""
        return None

    def split(
        self, desired_bundle_size: int, start_position: Any = None, stop_position: Any = None
    ) -> Iterable[SourceBundle]:
        """The source in bundles of about that size."""
        raise PipelineError(f"{type(self).__name__} must define split(desired_bundle_size).")

    def get_range_tracker(self, start_position: Any, stop_position: Any) -> RangeTracker:
        """For `read`; None for a position is the beginning, or the end, of the source."""
        raise PipelineError(f"{type(self).__name__} must define get_range_tracker(start_position, stop_position).")

    def read(self, range_tracker: Any) -> Iterable[Any]:
        """The elements that can be claimed."""
        raise PipelineError(f"{type(self).__name__} must define read(range_tracker).")

    def is_bounded(self) -> bool:
        return True


class Read(PTransform):
    """The elements of a BoundedSource."""

    def __init__(self, source: BoundedSource) -> None:
        if not isinstance(source, BoundedSource):
            raise PipelineError(f"Read takes a BoundedSource, not {source!r}. Topics are read by ReadFromTopic.")
        self.source = source

    def default_label(self) -> str:
        return self.label or f"Read({type(self.source).__name__})"

    def expand(self, pbegin: Any) -> PCollection:
        bundles = pbegin | "Source" >> Create([self.source]) | "Split" >> FlatMap(_split) | Reshuffle()
        elements: PCollection = bundles | "Read" >> FlatMap(_read)
        return elements


def _split(source: BoundedSource) -> list[SourceBundle]:
    bundles = list(source.split(BUNDLE_BYTES))
    for bundle in bundles:
        if not isinstance(bundle, SourceBundle):
            raise DataError(f"{type(source).__name__}.split gives {bundle!r}, which is no SourceBundle.")
    return bundles


def _read(bundle: SourceBundle) -> Iterator[Any]:
    yield from bundle.source.read(bundle.source.get_range_tracker(bundle.start_position, bundle.stop_position))
