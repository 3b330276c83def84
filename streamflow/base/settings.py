"""Settings: frozen data, passed in. Every one is documented here, the one place where defaults are decided."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How a pipeline is executed.

    partitions: of the internal topics of groupings; how far a stage can be spread. Fixed once a pipeline has state.
    step_events_max, step_bytes_max: the most that one step reads; bounds memory and the time to the next commit.
    commit_events_max, commit_bytes_max, commit_interval_s: a worker commits its finished steps together, at the latest
        once they have read this many events, hold this many bytes to be written, or have taken this long. Tasks change
        hands between two commits.
    sink_interval_s: the longest that a store sink collects before it writes (at once if step_events_max are waiting).
        It collects three times as long as its last write took, and a table at least 0.1 s. Each write of a table makes
        a file for each of its partitions, which every later query opens: a longer interval gives fewer and larger
        files, a shorter one, below 0.1 s too, rows that can be read sooner.
    poll_s: how long a worker with nothing to do waits before it looks again without having been woken.
    heartbeat_s: how often a worker gives a sign of life; lease_s: silence after which it is taken for dead.
    step_s_max: a step that lasts longer is taken for stuck: its worker writes where it is, ends, and is replaced.
    memory_bytes_max: a worker that holds more hands its tasks over and is replaced. None: nine tenths of what its
        cgroup or the machine has. Both are for worker processes, not for `Pipeline.run()`.
    compact_segments: once a task's state has more durable pieces than this (of any slice of its keys), those of similar
        size are merged, if that halves their rows; else once they are eight times as many.
    state_bytes_max: how much memory a worker's state may take, over all its tasks. What window state exceeds it by is
        read back from the log when it is needed. A sixteenth of it (4 MiB or more) is worked on at a time. The state of
        triggers, DoFns, side inputs and joins by time counts too, but stays in memory; a warning says when that alone
        is more.
    shard_bytes: files larger than this are read in several shards of about this size, where their format allows, so
        that several tasks share the work.
    prune_s: how often space that nothing needs any more is given back.
    allow_unsafe_triggers: accept triggers that finish, though what comes to a window after that is lost.
    explain_panes: keep the history of panes for `streamflow why`: which input rows each grouping took, which were late
        or dropped, which panes fired and when. Each input row is then written once more for each of its windows.
    explain_retention_s: how long that history is kept, from when it happened.
    triggers_by_bundle: ask the trigger of a window once for all elements that come together in one record, as Apache
        Beam does, instead of after each: `AfterCount(2)` fires with all three of three then. Panes depend on what comes
        together, so it is for tests that count on that. None: in a TestPipeline yes, elsewhere no.
    rows_only: run aggregates on the row path, one event at a time; for comparison and tests.
    """

    partitions: int = 16
    step_events_max: int = 250_000
    step_bytes_max: int = 32 << 20
    commit_events_max: int = 500_000
    commit_bytes_max: int = 64 << 20
    commit_interval_s: float = 0.5
    sink_interval_s: float = 0.2
    poll_s: float = 1.0
    heartbeat_s: float = 0.5
    lease_s: float = 10.0
    step_s_max: float = 600.0
    memory_bytes_max: int | None = None
    compact_segments: int = 32
    state_bytes_max: int = 256 << 20
    shard_bytes: int = 64 << 20
    prune_s: float = 10.0
    allow_unsafe_triggers: bool = False
    explain_panes: bool = False
    explain_retention_s: float = 24 * 3600
    triggers_by_bundle: bool | None = None
    rows_only: bool = False
