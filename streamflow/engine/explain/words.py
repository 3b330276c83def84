"""The words of `explain`: what is said of each kind of transform, of schemas and of windows. The only place for them: a
new kind of transform or stage registers here what it says, and until then is called by the name of its class.
"""

import copy
from collections.abc import Iterable, Mapping
from functools import singledispatch
from typing import Any

import polars as pl

from streamflow.engine.combine.contract import ACCUMULATOR, EVENTS, KEY, KEY_VALUE
from streamflow.engine.explain.diagram import BoxKind
from streamflow.engine.sides import PANE_VALUES, SIDE
from streamflow.model.batch import OFFSET, PANE, PANE_INFO, VALUE
from streamflow.model.composite_trigger import AfterWatermark
from streamflow.model.graph import Primitive, Shape
from streamflow.model.time import Duration
from streamflow.model.trigger import DefaultTrigger
from streamflow.model.watermark import BoundedDisorder
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, FixedWindows, GlobalWindows, SlidingWindows
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.transforms.collections import Create, Reshuffle
from streamflow.transforms.columns import AsColumns, SelectColumns, Where, WithColumns
from streamflow.transforms.combine import Aggregate
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.files import ReadFromFiles, WriteToFiles
from streamflow.transforms.grouping import Grouping, PerKey
from streamflow.transforms.io import ReadFromTopic, StoreSink, WriteToRows, WriteToTable, WriteToTopic
from streamflow.transforms.outputs import Tagged
from streamflow.transforms.periodicsequence import Firing
from streamflow.transforms.time_joins import FROM_LEFT, Interval, JoinSide, TimeJoin
from streamflow.transforms.userstate import get_dofn_specs
from streamflow.transforms.window import WindowInto

PYTHON_VALUES = "Python values"
_EXPRESSION_CHARS_MAX = 60
_UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"), (1, "µs"))
_OWN = {
    TIME: "time",
    OFFSET: "offset",
    WINDOW_START: "window",
    WINDOW_END: "window",
    PANE: "pane",
    PANE_INFO: "pane",
    VALUE: "pickled value",
    EVENTS: "number of events",
    KEY: "key",
    KEY_VALUE: "key",
    ACCUMULATOR: "accumulator (pickled)",
    SIDE: "number of the side input",
    FROM_LEFT: "whose row",
    PANE_VALUES: "pickled elements",
    "_row_key": "row key",
}
"""The engine's own columns."""


def columns(known: Mapping[str, Any] | None) -> str:
    """Names and types, then the engine's own columns in words, behind a '+'."""
    if known is None:
        return PYTHON_VALUES
    public = [f"{name} {type_name(dtype)}" for name, dtype in known.items() if not name.startswith("_")]
    own = dict.fromkeys(_OWN.get(name, name) for name in known if name.startswith("_"))
    return " + ".join(", ".join(part) for part in (public, own) if part)


def type_name(dtype: Any) -> str:
    """As Polars writes it, but short for a time in µs of UTC."""
    return str(dtype).replace("Datetime(time_unit='us', time_zone='UTC')", "Datetime[UTC]")


def schema(shape: Shape, windowing: Windowing) -> tuple[str, ...]:
    """Of an edge: its columns, how they are windowed, and whether they end."""
    return columns(shape.columns), f"{windows(windowing)}, {'bounded' if shape.bounded else 'unbounded'}"


def windows(windowing: Windowing) -> str:
    """The window function, and what of late events differs from the default."""
    said = _window_fn(windowing.fn)
    if windowing.trigger != DefaultTrigger():
        said += f", {windowing.trigger!r}"
    if windowing.allowed_lateness_us:
        said += f", lateness {duration(windowing.allowed_lateness_us)}"
    if not windowing.ends_once:
        said += ", accumulating" if windowing.accumulation_mode is AccumulationMode.ACCUMULATING else ", discarding"
    return said


def firing(windowing: Windowing) -> tuple[str, ...]:
    """When a grouping gives its results."""
    if windowing.trigger not in (DefaultTrigger(), AfterWatermark()):
        return (f"gives panes by {windowing.trigger!r}",)
    if windowing.is_global:
        return ("gives results when its input has ended",)
    on_time = "gives a pane when the watermark passes a window's end"
    if not windowing.allowed_lateness_us:
        return (on_time,)
    what = "everything so far" if windowing.accumulation_mode is AccumulationMode.ACCUMULATING else "what is new"
    return on_time, f"and up to {duration(windowing.allowed_lateness_us)} later for late events, with {what}"


def _too_late(late_to: str | None) -> tuple[str, ...]:
    return (f"what is too late goes to topic '{late_to}'",) if late_to else ()


def _window_fn(fn: Any) -> str:
    if isinstance(fn, GlobalWindows):
        return "global window"
    if isinstance(fn, FixedWindows):
        return f"fixed windows of {duration(fn.size_us)}{_offset(fn.offset_us)}"
    if isinstance(fn, SlidingWindows):
        return f"sliding windows of {duration(fn.size_us)} every {duration(fn.period_us)}{_offset(fn.offset_us)}"
    return repr(fn)


def _offset(offset_us: int) -> str:
    return f" from {duration(offset_us)} on" if offset_us else ""


def duration(micros: int | Duration) -> str:
    """In the largest unit that divides it: '13 h', '90 s'."""
    value = micros.micros if isinstance(micros, Duration) else micros
    size, unit = next((size, unit) for size, unit in _UNITS if value % size == 0)
    return f"{value // size} {unit}"


def expression(expr: Any) -> str:
    """As Polars writes it, in one line of bounded length."""
    said = " ".join(str(expr).replace("dyn int: ", "").replace("dyn float: ", "").split())
    return said if len(said) <= _EXPRESSION_CHARS_MAX else said[: _EXPRESSION_CHARS_MAX - 1] + "…"


def listed(names: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def per(transform: Grouping, windowing: Windowing) -> str:
    """What names a group: its key and its window."""
    keys: list[str] = []
    if isinstance(transform, Aggregate):
        keys += transform.keys
    elif not isinstance(transform, PerKey) or transform.keyed:
        keys.append("key")
    return listed(_named(keys, windowing))


def _named(keys: list[str], windowing: Windowing) -> list[str]:
    return [*keys, "window"] if not windowing.is_global or not keys else keys


def split(transform: Primitive) -> str:
    """By what the log in front of it is split, in several partitions."""
    if isinstance(transform, Aggregate):
        return f"by {', '.join(transform.keys)}"
    if isinstance(transform, TimeJoin):
        return f"by {_keys(transform)}"
    if isinstance(transform, ParDo) and transform.sides:
        return "as its writers are, side inputs in each"
    return "in equal parts" if isinstance(transform, (Reshuffle, Firing)) else "by key"


@singledispatch
def kind_of(transform: Primitive) -> BoxKind:
    """How its box looks."""
    return "sink" if transform.terminal else "transform" if transform.arity != 0 else "source"


@kind_of.register
def _(transform: Grouping) -> BoxKind:
    return "grouping"


@kind_of.register
def _(transform: TimeJoin) -> BoxKind:
    return "grouping"


@kind_of.register(Reshuffle)
@kind_of.register(ParDo)
def _(transform: Reshuffle | ParDo) -> BoxKind:
    return "transform" if isinstance(transform, ParDo) and not transform.stateful else "grouping"


@singledispatch
def asked(transform: Primitive) -> tuple[str, ...]:
    """What the user asked of it: its parameters."""
    plain = copy.copy(transform)
    plain.label = None
    return (plain.default_label(),)


@asked.register
def _(transform: ReadFromTopic) -> tuple[str, ...]:
    time = f"field {transform.event_time}" if transform.event_time else "time of publication"
    policy = transform.watermark
    late = f", out of order by up to {duration(policy.disorder_us)}" if policy.disorder_us else ""
    behind = (f"read behind '{transform.behind.label}'",) if transform.behind else ()
    marked = () if isinstance(policy, BoundedDisorder) else (f"watermark: {policy}",)
    return f"topic '{transform.topic}'", *behind, f"event time: {time}{late}", *marked


@asked.register
def _(transform: ReadFromFiles) -> tuple[str, ...]:
    time = f"field {transform.event_time}" if transform.event_time else "the earliest there is"
    return f"files '{transform.pattern}' ({transform.format})", f"event time: {time}"


@asked.register
def _(transform: Create) -> tuple[str, ...]:
    if transform.given_later:
        return ("values given while it runs",)
    return (f"{len(transform.values):,} given value{'' if len(transform.values) == 1 else 's'}",)


@asked.register
def _(transform: Where) -> tuple[str, ...]:
    return (f"keeps {expression(transform.predicate)}",)


@asked.register(SelectColumns)
@asked.register(WithColumns)
def _(transform: SelectColumns | WithColumns) -> tuple[str, ...]:
    plain = [expr.meta.output_name() for expr in transform.exprs if _is_column(expr)]
    made = [expression(expr) for expr in transform.exprs if not _is_column(expr)]
    return (*([f"takes {', '.join(plain)}"] if plain else []), *made)


def _is_column(expr: pl.Expr) -> bool:
    return str(expr) == str(pl.col(expr.meta.output_name(raise_if_undetermined=False) or ""))


@asked.register
def _(transform: AsColumns) -> tuple[str, ...]:
    return ("declares the columns",)


@asked.register
def _(transform: WindowInto) -> tuple[str, ...]:
    return (windows(transform.windowing),)


@asked.register
def _(transform: Aggregate) -> tuple[str, ...]:
    by = (f"by {', '.join(transform.keys)}",) if transform.keys else ()
    return *by, *(f"{name} = {expression(repr(fn))}" for name, fn in transform.aggregates.items())


@asked.register
def _(transform: TimeJoin) -> tuple[str, ...]:
    match = transform.match
    if isinstance(match, Interval):
        lower, upper = (duration(bound_us) if bound_us else "0 s" for bound_us in (match.lower_us, match.upper_us))
        between = f"right from {lower} to {upper} after left"
        alone = [name for name, outer in zip(("left", "right"), match.outer, strict=True) if outer]
        return f"by {_keys(transform)}, {between}", *([f"also {listed(alone)} without a partner"] if alone else [])
    which = "oldest of the right from" if match.forward else "newest of the right up to"
    within = "" if match.tolerance_us is None else f", within {duration(match.tolerance_us)}"
    deletes = (f"none where {match.deleted} is true",) if match.deleted else ()
    alone_too = ("also left without a partner",) if match.outer else ()
    return f"by {_keys(transform)}, {which} the left's time{within}", *deletes, *alone_too


@asked.register
def _(transform: JoinSide) -> tuple[str, ...]:
    return (f"as rows of the {'left' if transform.left else 'right'}",)


def _keys(transform: TimeJoin) -> str:
    return ", ".join(transform.names[key] for key in transform.keys)


@asked.register
def _(transform: Tagged) -> tuple[str, ...]:
    return ("outputs without a tag" if transform.tag is None else f"outputs with the tag '{transform.tag}'",)


@asked.register
def _(transform: WriteToTopic) -> tuple[str, ...]:
    return (f"topic '{transform.topic}'",)


@asked.register
def _(transform: WriteToTable) -> tuple[str, ...]:
    folders = f", folders by {', '.join(transform.partition_by)}" if transform.partition_by else ""
    newest = (f"newest row per {', '.join(transform.key)}",) if transform.key else ()
    return f"Delta table '{transform.table}'{folders}", *newest


@asked.register
def _(transform: WriteToRows) -> tuple[str, ...]:
    return f"row store '{transform.name}', family '{transform.family}'", f"row key {expression(transform.row_key)}"


@asked.register
def _(transform: WriteToFiles) -> tuple[str, ...]:
    return (f"files '{transform.prefix}…{transform.suffix}' ({transform.format})",)


@singledispatch
def heads(transform: Primitive, windowing: Windowing) -> tuple[str, ...]:
    """What it does at the head of a stage with what the stage reads; `windowing`: of the transform's input."""
    return asked(transform)


@heads.register
def _(transform: ReadFromTopic, windowing: Windowing) -> tuple[str, ...]:
    if transform.schema is None:
        return "decodes whole JSON documents", *asked(transform)[1:]
    names = ", ".join(transform.schema.names)
    return f"decodes from JSON only {names}", "passes other fields unparsed", *asked(transform)[1:]


@heads.register
def _(transform: Grouping, windowing: Windowing) -> tuple[str, ...]:
    what = "partials" if windowing.is_plain else "elements"
    return f"merges {what} per {per(transform, windowing)}", *firing(windowing), *_too_late(windowing.late_to)


@heads.register
def _(transform: ParDo, windowing: Windowing) -> tuple[str, ...]:
    if transform.sides:
        late = _too_late(windowing.late_to) if transform.sides_windowed else ()
        return "lets elements wait until their side inputs are known:", *map(repr, transform.sides), *late
    states, timers = get_dofn_specs(transform.fn)
    kept = sorted(repr(spec).replace("Spec(", "(") for spec in (*states, *timers))
    return *asked(transform), f"keeps per {listed(_named(['key'], windowing))}:", *kept, *_too_late(windowing.late_to)


@heads.register
def _(transform: TimeJoin, windowing: Windowing) -> tuple[str, ...]:
    at_once = isinstance(transform.match, Interval) and transform.match.outer == (False, False)
    gives = "pairs at once" if at_once else "rows that wait when the watermark has passed what they wait for"
    kept = "keeps rows of both sides until nothing can come that they could be joined with"
    return *asked(transform), kept, f"gives {gives}", *_too_late(transform.late_to)


@heads.register
def _(transform: Firing, windowing: Windowing) -> tuple[str, ...]:
    return "gives each element when the clock has come to its time", "keeps which one is next"


@heads.register
def _(transform: Reshuffle, windowing: Windowing) -> tuple[str, ...]:
    return ("goes on with the elements as they are",)


@heads.register
def _(transform: StoreSink, windowing: Windowing) -> tuple[str, ...]:
    return *asked(transform), "writes each row once: by its offset in the log"


def in_stage(transform: Primitive, windowing: Windowing) -> tuple[str, ...]:
    """What it does inside a stage; what begins a stage of its own stands there with what it does before its log."""
    if isinstance(transform, Grouping):
        if isinstance(transform, Aggregate) and windowing.is_plain_sessions:
            return ("hands on each event: which session it is in depends on all others",)
        if not windowing.is_plain:
            return ("hands on each element, as windows merge or a trigger decides by element",)
        return (f"partial aggregation per {per(transform, windowing)}",)
    if isinstance(transform, TimeJoin):
        return (f"splits rows by {_keys(transform)}",)
    if isinstance(transform, ParDo) and transform.stateful:
        return ("splits elements by key",)
    if isinstance(transform, Reshuffle):
        return ("splits elements in equal parts",)
    if isinstance(transform, StoreSink):
        return ("prepares rows for the store",)
    return asked(transform)
