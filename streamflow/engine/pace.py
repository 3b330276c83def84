"""How long tasks rest between two steps. Pure: the one decision between latency, batch size and number of files."""

BEHIND_S = 0.2
"""How long a grouping collects while its worker has source events to read. A step costs it milliseconds whatever it
brings, and as long as sources have a backlog, results are later than this anyway."""
REST_PER_WRITE = 3.0
"""A sink spends at most a quarter of the time in its store: a slow store gets larger batches, a quick one writes
sooner, and the other tasks of the worker's only thread have the rest of the time."""


def rest_s(write_s: float, least_s: float, most_s: float) -> float:
    """Seconds from the end of a write that took `write_s` to the beginning of the next; `most_s` wins."""
    return min(most_s, max(least_s, REST_PER_WRITE * write_s))


CALLING_STEP_S = 1.0
"""What a step with async functions is to take: between two steps a worker looks who owns what, and commits."""
CALLING_EVENTS_FIRST = 256
"""What the first such step reads, while nobody knows how long the calls take."""


def calling_events(events_max: int, events: int, seconds: float) -> int:
    """How many events the next step with async functions reads at most, if the last was allowed `events_max` and read
    `events` in `seconds`. At most twice as many: one quick answer says little."""
    if not events:
        return events_max
    return max(1, min(2 * events_max, int(events * CALLING_STEP_S / max(seconds, 1e-6))))
