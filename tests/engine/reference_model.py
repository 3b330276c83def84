"""The rules of windows, triggers and panes in the plainest Python: one event at a time, all state in objects.

Nothing of the library is used, so that it can't be wrong in the same way. Times are whole seconds. Windows and
triggers are nested are nested tuples, such as `("fixed", 10, 3)` and `("watermark", ("count", 2), None)`.
"""

from typing import Any

from reference_windows import END, meets, windows_of


def plain(spec: Any) -> tuple[Any, ...]:
    """A trigger in terms of `count`, `time` and `past` (the end of the window), and of those made of others."""
    if spec is None or spec[0] == "never":
        return "count", END
    if spec[0] == "default":
        return "repeat", ("past",)
    if spec[0] == "watermark":
        until_end = "or", ("repeat", plain(spec[1])), ("past",)
        return ("each", until_end, ("repeat", plain(spec[2]))) if spec[2] else until_end
    return tuple(plain(each) if isinstance(each, tuple) else each for each in spec)


class Trigger:
    """`spec`: as `plain` gives it. Made of others are `repeat`, `any`, `all`, `each` (one after the other) and `or`
    (the first, until the second)."""

    def __init__(self, spec: tuple[Any, ...]) -> None:
        self.spec, self.kind = spec, spec[0]
        self.subs = [Trigger(each) for each in spec[1:] if isinstance(each, tuple)]
        self.reset()

    def reset(self) -> None:
        self.n, self.due, self.done = 0, None, False
        for each in self.subs:
            each.reset()

    def turn(self) -> list["Trigger"]:
        """The inner triggers whose turn it is."""
        open_ = [each for each in self.subs if not each.done]
        return open_[:1] if self.kind == "each" else open_

    def element(self, now: int) -> None:
        self.n += 1
        if self.kind == "time" and self.due is None:
            self.due = now + self.spec[1]
        for each in self.turn():
            each.element(now)

    def ready(self, past: bool, now: int) -> bool:
        if self.kind == "count":
            return self.n >= self.spec[1]
        if self.kind == "time":
            return self.due is not None and now >= self.due
        inner = [each.ready(past, now) for each in self.turn()] or [past]
        return all(inner) if self.kind == "all" else any(inner)

    def fire(self, past: bool, now: int) -> None:
        turn = self.turn()
        ready = [each for each in turn if each.ready(past, now)]
        is_until = self.kind == "or" and self.subs[1] in ready
        for each in turn:
            if each in ready and not (is_until and each is self.subs[0]):
                each.fire(past, now)
            elif self.kind == "any" or is_until:
                each.reset()
        self.done = is_until or not self.subs
        self.settle()

    def settle(self) -> None:
        finished = [each.done for each in self.subs]
        if self.kind == "repeat" and finished[0]:
            self.subs[0].reset()
        elif self.kind in ("any", "or"):
            self.done = self.done or any(finished)
        elif self.kind in ("all", "each"):
            self.done = all(finished)

    def next_due(self) -> list[int]:
        own = [] if self.due is None or self.done else [self.due]
        return own + [due for each in self.subs if not each.done for due in each.next_due()]


def merged(triggers: list[Trigger], past: bool) -> Trigger:
    """What becomes of the triggers of windows that become one."""
    of, open_ = Trigger(triggers[0].spec), [each for each in triggers if not each.done]
    if of.kind == "count":
        of.done, of.n = len(open_) < len(triggers), sum(each.n for each in open_)
    elif of.kind == "time":
        of.done = not open_
        of.due = min((each.due for each in open_ if each.due is not None), default=None)
    elif of.kind == "past":
        of.done = past and not open_
    of.subs = [merged([each.subs[i] for each in triggers], past) for i in range(len(of.subs))]
    for i, each in enumerate(of.subs):
        if of.kind == "each" and not all(before.done for before in of.subs[:i]):
            each.reset()
    of.settle()
    return of


class Window:
    """One window of a key, and what is known of it."""

    def __init__(self, key: str, start: int, end: int, trigger: Trigger) -> None:
        self.key, self.start, self.end, self.trigger = key, start, end, trigger
        self.values: list[int] = []
        self.times: list[int] = []
        self.new, self.panes, self.not_early, self.owed = 0, 0, 0, False


class Model:
    """`play` gives the panes of one step: first the clock, then the events, then the watermark. `stamp`: None for the
    end of the window, or `min` or `max` of event times; `on_time`, `closing`: these come though nothing is new."""

    def __init__(
        self, windows: Any, trigger: Any, lateness: int, accumulating: bool, stamp: Any, on_time: bool, closing: bool
    ) -> None:
        self.windows, self.spec, self.lateness, self.accumulating = windows, plain(trigger), lateness, accumulating
        self.stamp, self.on_time, self.closing = stamp, on_time, closing
        self.open: list[Window] = []
        self.watermark, self.now, self.dropped = -END, 0, 0
        self.out: list[list[Any]] = []

    def play(self, now: int, events: list[tuple[str, int, int]], watermark: int) -> list[list[Any]]:
        self.out, self.now = [], now
        for window in self.open:
            if any(due <= now for due in window.trigger.next_due()):
                self.try_fire(window)
        for key, at, value in events:
            for start, end in windows_of(self.windows, at, value):
                self.element(key, start, end, at, value)
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        for window in list(self.open):
            even_empty = (window.owed and self.on_time) or (self.closing and not self.lateness)
            ends = before < window.end <= self.watermark
            closed = ends and self.try_fire(window, even_empty, last=not self.lateness) and not self.lateness
            if window.end + self.lateness <= self.watermark or self.watermark == END:
                if not window.trigger.done and not closed and (window.new or self.closing):
                    self.pane(window, True)
                self.open.remove(window)
        return self.out

    def element(self, key: str, start: int, end: int, at: int, value: int) -> None:
        start, end = self.merge(key, start, end)
        found = [each for each in self.open if (each.key, each.start, each.end) == (key, start, end)]
        if not found and end + self.lateness > self.watermark:
            found = [Window(key, start, end, Trigger(self.spec))]
            self.open += found
        if not found or found[0].trigger.done:
            self.dropped += 1
            return
        window = found[0]
        window.trigger.element(self.now)
        window.values.append(value)
        window.new += 1
        window.owed = window.owed or self.watermark < end
        window.times += [at] if at >= self.watermark else []
        self.try_fire(window)

    def merge(self, key: str, start: int, end: int) -> tuple[int, int]:
        """The window becomes one with those that it meets, perhaps by way of others."""
        others, sources = [each for each in self.open if each.key == key], list[Window]()
        if any((each.start, each.end) == (start, end) for each in others):
            return start, end
        while more := [w for w in others if w not in sources and meets(self.windows, w.start, w.end, start, end)]:
            sources += more
            start, end = min(start, *(w.start for w in more)), max(end, *(w.end for w in more))
        if sources:
            past = self.watermark >= end
            new = Window(key, start, end, merged([each.trigger for each in sources], past))
            new.owed = not past or any(each.owed for each in sources)
            for each in sources:
                if (each.start, each.end) == (start, end):
                    new.panes, new.not_early = each.panes, each.not_early
                new.values, new.new, new.times = new.values + each.values, new.new + each.new, new.times + each.times
                self.open.remove(each)
            self.open.append(new)
        return start, end

    def try_fire(self, window: Window, even_empty: bool = False, last: bool = False) -> bool:
        past = self.watermark >= window.end
        fires = not window.trigger.done and window.trigger.ready(past, self.now)
        if fires:
            window.trigger.fire(past, self.now)
            if window.new or even_empty:
                self.pane(window, last or window.trigger.done)
        return fires

    def pane(self, of: Window, last: bool) -> None:
        early = self.watermark < of.end
        timing = "EARLY" if early else "ON_TIME" if of.owed else "LATE"
        number = -1 if early else of.not_early
        stamp = self.stamp(of.times) if of.times and self.stamp else None
        place = [of.key, of.start, of.end]
        self.out.append([*place, timing, of.panes, number, of.panes == 0, last, stamp, sorted(of.values)])
        of.panes, of.not_early = of.panes + 1, of.not_early + (not early)
        of.owed, of.new, of.times = of.owed and early, 0, []
        if last or not self.accumulating:
            of.values = []
