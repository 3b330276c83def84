"""Small transforms for pairs, texts and whole PCollections, with Apache Beam's names, made of the primitives."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.window import TimestampedValue
from streamflow.transforms.batching import BatchElements, GroupIntoBatches
from streamflow.transforms.collections import Flatten, Reshuffle
from streamflow.transforms.combine import CombinePerKey
from streamflow.transforms.elementwise import DoFn, FlatMap, Map, MapTuple
from streamflow.transforms.ptransform import ptransform_fn
from streamflow.transforms.sides import AsIter

__all__ = [
    "BatchElements",
    "CoGroupByKey",
    "Distinct",
    "FlattenWith",
    "GroupIntoBatches",
    "Keys",
    "KvSwap",
    "LogElements",
    "Regex",
    "Reify",
    "Reshuffle",
    "Tee",
    "ToString",
    "Values",
    "WaitOn",
    "WithKeys",
]

logger = logging.getLogger(__name__)


class CoGroupByKey(PTransform):
    """Several PCollections of pairs, by key: `{"a": left, "b": right} | CoGroupByKey()` gives
    `(key, {"a": [values…], "b": [values…]})` per key and window; of a tuple or list `(key, ([values…], [values…]))`.

    A collection without the key gives an empty list; the order of the values is not defined. All must have the same
    windows. `pipeline` is there for Beam's sake: the inputs know theirs.
    """

    def __init__(self, *, pipeline: Any = None) -> None:
        self.pipeline = pipeline

    def expand(self, pcolls: Any) -> Any:
        if not isinstance(pcolls, (Mapping, tuple, list)):
            raise PipelineError(f"{self.default_label()} joins several PCollections. Write `(a, b) | CoGroupByKey()`.")
        tags = list(pcolls) if isinstance(pcolls, Mapping) else None
        inputs = list(pcolls.values() if isinstance(pcolls, Mapping) else pcolls)
        tagged = [
            pcoll | f"Tag-{place}" >> MapTuple(lambda key, value, place: (key, (place, value)), place)
            for place, pcoll in enumerate(inputs)
        ]
        grouped = tagged | Flatten() | "GroupByKey" >> CombinePerKey(_ListsCombineFn(len(inputs)))
        if tags is not None:
            return grouped | "Name" >> MapTuple(lambda key, lists: (key, dict(zip(tags, lists, strict=True))))
        return grouped


class _ListsCombineFn(CombineFn):
    """(place, value) → a tuple with a list of values for each place."""

    def __init__(self, size: int) -> None:
        self.size = size

    def create_accumulator(self) -> list[list[Any]]:
        return [[] for _ in range(self.size)]

    def add_input(self, accumulator: list[list[Any]], element: tuple[int, Any]) -> list[list[Any]]:
        place, value = element
        accumulator[place].append(value)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[list[Any]]]) -> list[list[Any]]:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for values, more in zip(merged, accumulator, strict=True):
                values += more
        return merged

    def extract_output(self, accumulator: list[list[Any]]) -> tuple[list[Any], ...]:
        return tuple(accumulator)


@ptransform_fn
def Keys(pcoll: PCollection, label: str = "Keys") -> Any:  # noqa: N802 - Beam's name, as the others here
    """The keys of (key, value) pairs."""
    return pcoll | label >> MapTuple(lambda key, _: key)


@ptransform_fn
def Values(pcoll: PCollection, label: str = "Values") -> Any:  # noqa: N802
    """The values of (key, value) pairs."""
    return pcoll | label >> MapTuple(lambda _, value: value)


@ptransform_fn
def KvSwap(pcoll: PCollection, label: str = "KvSwap") -> Any:  # noqa: N802
    """(key, value) → (value, key)."""
    return pcoll | label >> MapTuple(lambda key, value: (value, key))


@ptransform_fn
def WithKeys(pcoll: PCollection, k: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
    """Each element as (key, element). `k`: the key, or a function of the element (and the further arguments)."""
    if callable(k):
        return pcoll | Map(lambda element: (k(element, *args, **kwargs), element))
    return pcoll | Map(lambda element: (k, element))


@ptransform_fn
def Distinct(pcoll: PCollection) -> Any:  # noqa: N802
    """Each different element once per window. Elements are compared as keys are: 1, 1.0 and True differ."""
    once = CombinePerKey(lambda _: None)
    return pcoll | "Pair" >> Map(lambda element: (element, None)) | "Group" >> once | Keys()


class FlattenWith(PTransform):
    """The union with others: `a | FlattenWith(b, Create([1]))`. What is a transform is applied to the pipeline."""

    def __init__(self, *others: PCollection | PTransform) -> None:
        self.others = others

    def expand(self, pcoll: PCollection) -> Any:
        others = [each if isinstance(each, PCollection) else pcoll.pipeline | each for each in self.others]
        return [pcoll, *others] | Flatten()


class Tee(PTransform):
    """The input itself, having applied each consumer to it: transforms, or functions of the PCollection."""

    def __init__(self, *consumers: PTransform | Callable[[PCollection], Any]) -> None:
        self.consumers = consumers

    def expand(self, pcoll: PCollection) -> PCollection:
        for consumer in self.consumers:
            if isinstance(consumer, PTransform):
                pcoll | consumer
            else:
                consumer(pcoll)
        return pcoll


class LogElements(PTransform):
    """Shows each element and passes it on: printed, or logged if `level` is one of `logging`.

    A step that is repeated after a crash shows its elements again."""

    def __init__(
        self,
        label: str | None = None,
        prefix: str = "",
        with_timestamp: bool = False,
        with_window: bool = False,
        level: int | None = None,
    ) -> None:
        self.label = label
        self.prefix, self.with_timestamp, self.with_window, self.level = prefix, with_timestamp, with_window, level

    def expand(self, pcoll: PCollection) -> Any:
        if self.with_window:
            return pcoll | Map(self._shown_in_window)
        return pcoll | Map(self._shown)

    def _shown(self, element: Any, timestamp: Any = DoFn.TimestampParam) -> Any:
        return self._show(element, timestamp)

    def _shown_in_window(
        self, element: Any, timestamp: Any = DoFn.TimestampParam, window: Any = DoFn.WindowParam
    ) -> Any:
        return self._show(element, timestamp, f", window(start={window.start}, end={window.end})")

    def _show(self, element: Any, timestamp: Any, window: str = "") -> Any:
        line = f"{self.prefix}{element}"
        if self.with_timestamp:
            line += f", timestamp={timestamp}"
        if self.level is None:
            print(line + window)
        else:
            logger.log(self.level, "%s", line + window)
        return element


class ToString:
    """Elements as text."""

    @staticmethod
    @ptransform_fn
    def Element(pcoll: PCollection) -> Any:  # noqa: N802
        """`str` of each."""
        return pcoll | Map(str)

    @staticmethod
    @ptransform_fn
    def Kvs(pcoll: PCollection, delimiter: str | None = None) -> Any:  # noqa: N802
        """(key, value) → "key,value"."""
        return pcoll | MapTuple(lambda key, value: f"{key}{delimiter or ','}{value}")

    @staticmethod
    @ptransform_fn
    def Iterables(pcoll: PCollection, delimiter: str | None = None) -> Any:  # noqa: N802
        """[1, 2, 3] → "1,2,3"."""
        return pcoll | Map(lambda items: (delimiter or ",").join(map(str, items)))


class WaitOn(PTransform):
    """The same elements, each once what the other PCollections have in its window is complete: `pcoll | WaitOn(done)`.
    They wait as for a side input."""

    def __init__(self, *to_be_waited_on: PCollection) -> None:
        if not to_be_waited_on or not all(isinstance(pcoll, PCollection) for pcoll in to_be_waited_on):
            raise PipelineError(f"WaitOn takes the PCollections to wait for, not {to_be_waited_on!r}.")
        self.to_be_waited_on = to_be_waited_on

    def expand(self, pcoll: PCollection) -> Any:
        ends = [other | f"End-{place}" >> FlatMap(lambda _: ()) for place, other in enumerate(self.to_be_waited_on)]
        return pcoll | "Wait" >> Map(lambda element, *_: element, *map(AsIter, ends))


class Reify:
    """Event times and windows as values. What is given back as a TimestampedValue is an element of that time again."""

    @staticmethod
    @ptransform_fn
    def Timestamp(pcoll: PCollection) -> Any:  # noqa: N802
        """Each element, at its own event time."""

        def stamped(element: Any, timestamp: Any = DoFn.TimestampParam) -> TimestampedValue[Any]:
            return TimestampedValue(element, timestamp)

        return pcoll | Map(stamped)

    @staticmethod
    @ptransform_fn
    def Window(pcoll: PCollection) -> Any:  # noqa: N802
        """(element, event time, window), once for each window."""

        def windowed(element: Any, timestamp: Any = DoFn.TimestampParam, window: Any = DoFn.WindowParam) -> Any:
            return TimestampedValue((element, timestamp, window), timestamp)

        return pcoll | Map(windowed)

    @staticmethod
    @ptransform_fn
    def TimestampInValue(pcoll: PCollection) -> Any:  # noqa: N802
        """(key, value) → (key, TimestampedValue(value, event time))."""

        def stamped(key: Any, value: Any, timestamp: Any = DoFn.TimestampParam) -> Any:
            return key, TimestampedValue(value, timestamp)

        return pcoll | MapTuple(stamped)

    @staticmethod
    @ptransform_fn
    def WindowInValue(pcoll: PCollection) -> Any:  # noqa: N802
        """(key, value) → (key, (value, event time, window)), once for each window."""

        def windowed(key: Any, value: Any, timestamp: Any = DoFn.TimestampParam, window: Any = DoFn.WindowParam) -> Any:
            return TimestampedValue((key, (value, timestamp, window)), timestamp)

        return pcoll | MapTuple(windowed)


Group = int | str
Pattern = str | re.Pattern[str]


class Regex:
    """Regular expressions on texts. `regex`: text or compiled; `group`, `keyGroup`, `valueGroup`: a number or name."""

    ALL = "__regex_all_groups"

    @staticmethod
    @ptransform_fn
    def matches(pcoll: PCollection, regex: Pattern, group: Group = 0) -> Any:
        """The group of texts that match from their beginning; others are left out."""
        match = re.compile(regex).match
        return pcoll | FlatMap(lambda text: [m.group(group)] if (m := match(text)) else [])

    @staticmethod
    @ptransform_fn
    def all_matches(pcoll: PCollection, regex: Pattern) -> Any:
        """All groups, the whole match first, of texts that match from their beginning, as a list."""
        match = re.compile(regex).match
        return pcoll | FlatMap(lambda text: [[m.group(), *m.groups()]] if (m := match(text)) else [])

    @staticmethod
    @ptransform_fn
    def matches_kv(pcoll: PCollection, regex: Pattern, keyGroup: Group, valueGroup: Group = 0) -> Any:  # noqa: N803
        """(group, group) of texts that match from their beginning."""
        match = re.compile(regex).match
        return pcoll | FlatMap(lambda text: [m.group(keyGroup, valueGroup)] if (m := match(text)) else [])

    @staticmethod
    @ptransform_fn
    def find(pcoll: PCollection, regex: Pattern, group: Group = 0) -> Any:
        """The group of the first place that matches; texts without one are left out."""
        search = re.compile(regex).search
        return pcoll | FlatMap(lambda text: [m.group(group)] if (m := search(text)) else [])

    @staticmethod
    @ptransform_fn
    def find_all(pcoll: PCollection, regex: Pattern, group: Group = 0, outputEmpty: bool = True) -> Any:  # noqa: N803
        """A list of the group at every place that matches; with `Regex.ALL`, of (whole match, first group).

        `outputEmpty=False` leaves empty ones out of the list."""
        finditer = re.compile(regex).finditer

        def found(text: str) -> list[Any]:
            if group == Regex.ALL:
                return [(m.group(), m.group(1)) for m in finditer(text) if outputEmpty or m.group(1)]
            return [m.group(group) for m in finditer(text) if outputEmpty or m.group(group)]

        return pcoll | Map(found)

    @staticmethod
    @ptransform_fn
    def find_kv(pcoll: PCollection, regex: Pattern, keyGroup: Group, valueGroup: Group = 0) -> Any:  # noqa: N803
        """(group, group) for every place that matches."""
        finditer = re.compile(regex).finditer
        return pcoll | FlatMap(lambda text: [m.group(keyGroup, valueGroup) for m in finditer(text)])

    @staticmethod
    @ptransform_fn
    def replace_all(pcoll: PCollection, regex: Pattern, replacement: str) -> Any:
        """Each text with all matches replaced; `\\\\1` in the replacement is the first group."""
        sub = re.compile(regex).sub
        return pcoll | Map(lambda text: sub(replacement, text))

    @staticmethod
    @ptransform_fn
    def replace_first(pcoll: PCollection, regex: Pattern, replacement: str) -> Any:
        """Each text with the first match replaced."""
        sub = re.compile(regex).sub
        return pcoll | Map(lambda text: sub(replacement, text, count=1))

    @staticmethod
    @ptransform_fn
    def split(pcoll: PCollection, regex: Pattern, outputEmpty: bool = False) -> Any:  # noqa: N803
        """Each text as the list of what stands between the matches; empty parts only if `outputEmpty`."""
        split = re.compile(regex).split
        return pcoll | Map(lambda text: [part for part in split(text) if part or outputEmpty])
