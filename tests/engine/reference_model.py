"""The rules of windows, triggers and panes in the plainest Python: one event at a time, all state in objects.

Nothing of the library is used, so that it can't be wrong in the same way. Times are whole seconds. Triggers are nested
tuples, e.g. `("watermark", ("count", 2), None)`; windows too: `("fixed", 10)`, `("sliding", 10, 5)`, `("sessions", 5)`,
`("days", "Europe/Berlin")`.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

END = 10**12
"""The end of time."""


def windows_of(spec: tuple[Any, ...], at: int) -> list[tuple[int, int]]:
    kind, *args = spec
    if kind == "fixed":
        start = at // args[0] * args[0]
        return [(start, start + args[0])]
    if kind == "sliding":
        size, period = args
        starts = range((at - size) // period * period, at + 1)
        return [(start, start + size) for start in starts if start % period == 0 and start <= at < start + size]
    if kind == "sessions":
        return [(at, at + args[0])]
    zone = ZoneInfo(args[0])
    day = datetime.fromtimestamp(at, UTC).astimezone(zone).date()
    begin, end = (datetime.combine(d, time(), zone) for d in (day, day + timedelta(days=1)))
    return [(int(begin.timestamp()), int(end.timestamp()))]


class Trigger:
    def __init__(self, spec: tuple[Any, ...]) -> None:
        self.spec, self.kind = spec, spec[0]
        self.n, self.due, self.is_late, self.done = 0, None, False, False
        inner = [] if self.kind in ("count", "time") else spec[1:]
        if self.kind == "watermark":
            inner = [("repeat", each) if each else ("never",) for each in inner]
        self.subs = [Trigger(each) for each in inner]

    def active(self) -> list["Trigger"]:
        """The inner triggers whose turn it is."""
        if self.kind == "watermark":
            return [self.subs[1 if self.is_late else 0]]
        open_ = [each for each in self.subs if not each.done]
        return open_[:1] if self.kind == "each" else open_

    def element(self, now: int) -> None:
        self.n += 1
        if self.kind == "time" and self.due is None:
            self.due = now + self.spec[1]
        for each in self.active():
            each.element(now)

    def ready(self, past: bool, now: int) -> bool:
        if self.kind == "count":
            return self.n >= self.spec[1]
        if self.kind == "time":
            return self.due is not None and now >= self.due
        inner = [each.ready(past, now) for each in self.active()]
        if self.kind in ("default", "never"):
            return self.kind == "default" and past
        if self.kind == "watermark":
            return inner[0] or (past and not self.is_late)
        return all(inner) if self.kind == "all" else any(inner)

    def fire(self, past: bool, now: int) -> None:
        if self.kind in ("count", "time"):
            self.done = True
        elif self.kind == "watermark" and past and not self.is_late:
            self.is_late, self.subs, self.done = True, Trigger(self.spec).subs, self.spec[2] is None
        elif self.kind == "or" and self.subs[1].ready(past, now):
            self.subs[0] = Trigger(self.spec[1])
            self.subs[1].fire(past, now)
            self.done = True
        elif self.kind in ("or", "watermark", "repeat", "each"):
            self.active()[0].fire(past, now)
        elif self.kind in ("any", "all"):
            for i, each in enumerate(self.subs):
                if each.ready(past, now) and not each.done:
                    each.fire(past, now)
                elif self.kind == "any":
                    self.subs[i] = Trigger(each.spec)
        self.settle()

    def settle(self) -> None:
        finished = [each.done for each in self.subs]
        if self.kind == "repeat" and finished[0]:
            self.subs = [Trigger(self.spec[1])]
        elif self.kind in ("any", "or"):
            self.done = self.done or any(finished)
        elif self.kind in ("all", "each"):
            self.done = all(finished)

    def next_due(self) -> list[int]:
        own = [self.due] if self.due is not None and not self.done else []
        inner = self.subs if self.kind == "watermark" else [each for each in self.subs if not each.done]
        return own + [due for each in inner for due in each.next_due()]


def merged(triggers: list[Trigger], past: bool) -> Trigger:
    """What becomes of the triggers of windows that become one."""
    of = Trigger(triggers[0].spec)
    if of.kind == "count":
        of.done, of.n = any(each.done for each in triggers), sum(each.n for each in triggers if not each.done)
    elif of.kind == "time":
        of.done = all(each.done for each in triggers)
        dues = [each.due for each in triggers if each.due is not None and not each.done]
        of.due = min(dues, default=None)
    elif of.kind == "watermark":
        of.is_late = past and all(each.is_late for each in triggers)
        of.done = of.is_late and of.spec[2] is None
        turn = 1 if of.is_late else 0
        of.subs[turn] = merged([each.subs[turn] for each in triggers], past)
    else:
        of.subs = [merged([each.subs[i] for each in triggers], past) for i in range(len(of.subs))]
        if of.kind == "each":
            open_ = [i for i, each in enumerate(of.subs) if not each.done]
            of.subs = [Trigger(s.spec) if open_ and i > open_[0] else s for i, s in enumerate(of.subs)]
        of.settle()
    return of


class Window:
    """What is known of one window of a key."""

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self.values: list[Any] = []
        self.new, self.panes, self.not_early, self.owed = 0, 0, 0, False
        self.times: list[int] = []


class Model:
    """`play` gives the panes of one step: first the clock, then the events, then the watermark."""

    def __init__(self, windows: Any, trigger: Any, lateness: int, accumulating: bool, stamp: str = "end") -> None:
        self.windows, self.spec, self.lateness, self.accumulating = windows, trigger, lateness, accumulating
        self.stamp = stamp
        self.open: dict[tuple[str, int, int], Window] = {}
        self.watermark, self.now, self.dropped = -END, 0, 0
        self.out: list[tuple[Any, ...]] = []

    def play(self, now: int, events: list[tuple[str, int, Any]], watermark: int) -> list[tuple[Any, ...]]:
        self.out, self.now = [], now
        for place, window in list(self.open.items()):
            if any(due <= now for due in window.trigger.next_due()):
                self.try_fire(place, window)
        for key, at, value in events:
            for start, end in windows_of(self.windows, at):
                self.element(key, start, end, at, value)
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        for place, window in list(self.open.items()):
            if before < place[2] <= self.watermark:
                self.try_fire(place, window, even_empty=window.owed, last=not self.lateness)
            if place[2] + self.lateness <= self.watermark or self.watermark == END:
                if window.new and not window.trigger.done:
                    self.pane(place, window, True)
                del self.open[place]
        return self.out

    def element(self, key: str, start: int, end: int, at: int, value: Any) -> None:
        near = [(key, start, end)]
        if self.windows[0] == "sessions" and near[0] not in self.open:
            while more := [p for p in self.open if p[0] == key and p not in near and p[1] < end and start < p[2]]:
                near += more
                start, end = min(p[1] for p in near), max(p[2] for p in near)
            if sources := [p for p in near if p in self.open]:
                self.merge(sources, (key, start, end))
        place = (key, start, end)
        if place not in self.open and end + self.lateness > self.watermark:
            self.open[place] = Window(Trigger(self.spec))
        window = self.open.get(place)
        if window is None or window.trigger.done:
            self.dropped += 1
            return
        window.trigger.element(self.now)
        window.values.append(value)
        window.new += 1
        window.owed = window.owed or self.watermark < end
        window.times += [at] if at >= self.watermark else []
        self.try_fire(place, window)

    def merge(self, sources: list[tuple[str, int, int]], place: tuple[str, int, int]) -> None:
        past = self.watermark >= place[2]
        old = [self.open[each] for each in sources]
        new = Window(merged([each.trigger for each in old], past))
        if place in self.open:
            new.panes, new.not_early = self.open[place].panes, self.open[place].not_early
        new.owed = not past or any(each.owed for each in old)
        for each in old:
            new.values, new.new, new.times = new.values + each.values, new.new + each.new, new.times + each.times
        for each in sources:
            del self.open[each]
        self.open[place] = new

    def try_fire(self, place: Any, window: Window, even_empty: bool = False, last: bool = False) -> None:
        past = self.watermark >= place[2]
        if not window.trigger.done and window.trigger.ready(past, self.now):
            window.trigger.fire(past, self.now)
            if window.new or even_empty:
                self.pane(place, window, last or window.trigger.done)

    def pane(self, place: Any, window: Window, last: bool) -> None:
        early = self.watermark < place[2]
        timing = "EARLY" if early else "ON_TIME" if window.owed else "LATE"
        least = {"end": None, "earliest": min, "latest": max}[self.stamp]
        stamp = least(window.times) if least and window.times else None
        number = -1 if early else window.not_early
        values = sorted(window.values)
        self.out.append((*place, timing, window.panes, number, window.panes == 0, last, stamp, values))
        window.panes, window.not_early = window.panes + 1, window.not_early + (not early)
        window.owed, window.new, window.times = window.owed and early, 0, []
        if last or not self.accumulating:
            window.values = []
