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
