"""The contract of `TaskLog`: tasks, commits, fencing and membership, on every backend."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, DataError, FencedError, NotFoundError, StreamFlowError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics.protocol import Assignment, Log, Snapshot, StageInput, TaskId, TaskState, TopicConfig

pytestmark = pytest.mark.contract


def state(log: Log, of: TaskId) -> TaskState:
    return log.snapshot(of.pipeline).tasks[of]


def test_registered_pipeline_has_a_task_for_each_partition_of_each_input(log: Log) -> None:
    log.create_topic("t", TopicConfig(partitions=2))
    log.create_topic("u", TopicConfig(partitions=1))
    log.register_pipeline("p", "shape", [StageInput("a", "t"), StageInput("b", "u")])
    tasks = log.snapshot("p").tasks
    assert list(tasks) == [make.task(0, stage="a"), make.task(1, stage="a"), make.task(0, stage="b")]
    assert tasks[make.task(0, stage="b")] == TaskState(make.task(0, stage="b"), "u", 0, MIN_US, 0, None, None, {})
    assert log.pipelines() == {"p": "shape"}


def test_registering_again_keeps_tasks_and_clears_the_stop_mark(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 7)])
    log.request_stop("p")
    assert log.snapshot("p").stopping
    log.register_pipeline("p", "shape", [StageInput("s", "t")])
    assert not log.snapshot("p").stopping
    assert state(log, make.task()).offset == 7


def test_registering_another_shape_conflicts_and_changes_nothing(log: Log) -> None:
    make.pipeline(log)
    log.request_stop("p")
    with pytest.raises(ConflictError, match="'p' exists in another shape"):
        log.register_pipeline("p", "other", [StageInput("s", "t"), StageInput("s2", "t")])
    assert log.pipelines() == {"p": "shape"}
    assert len(log.snapshot("p").tasks) == 2
    assert log.snapshot("p").stopping


def test_registering_needs_the_topics_and_a_good_name(log: Log) -> None:
    log.create_topic("t")
    with pytest.raises(NotFoundError, match="'u' does not exist"):
        log.register_pipeline("p", "shape", [StageInput("s", "t"), StageInput("s2", "u")])
    with pytest.raises(DataError):
        log.register_pipeline("../p", "shape", [StageInput("s", "t")])
    assert log.pipelines() == {}


def test_unknown_pipeline_and_task_errors_name_the_closest(log: Log) -> None:
    make.pipeline(log, name="flights")
    for use in (log.snapshot, log.request_stop, log.reset_pipeline, lambda name: log.request_workers(name, 1)):
        with pytest.raises(NotFoundError, match="Did you mean 'flights'"):
            use("flihgts")
    with pytest.raises(NotFoundError, match="Did you mean 'flights'"):
        log.join(make.worker("w", pipeline="flihgts"))
    with pytest.raises(NotFoundError, match="task 'flights/s/7' does not exist"):
        log.claim(make.task(7, pipeline="flights"), "w")


def test_wanted_workers_are_seen_until_they_are_left_to_the_autoscaler(log: Log) -> None:
    make.pipeline(log)
    seen = [log.snapshot("p").workers_wanted]
    for count in (3, 0, None):
        log.request_workers("p", count)
        seen.append(log.snapshot("p").workers_wanted)
    assert seen == [None, 3, 0, None]
    with pytest.raises(DataError):
        log.request_workers("p", -1)


def test_snapshot_shows_the_pipelines_own_topics_tasks_and_workers_only(log: Log) -> None:
    make.pipeline(log)
    make.pipeline(log, topic="u", name="q")
    log.join(make.worker("w"))
    log.join(make.worker("v", pipeline="q"))
    log.publish([make.record("t", 1, count=4), make.record("u")])
    log.advance_watermark("t", 9)
    seen = log.snapshot("p")
    assert seen.ends == {("t", 0): 0, ("t", 1): 4}
    assert seen.topics == {"t": log.topic("t")}
    assert seen.workers == {"w": make.worker("w")}
    assert {task.pipeline for task in seen.tasks} == {"p"}


def test_task_is_claimed_only_by_its_assignee(log: Log) -> None:
    make.pipeline(log)
    assert log.claim(make.task(), "w") is None
    make.move(log, {make.task(): "v"})
    assert log.claim(make.task(), "w") is None
    claim = log.claim(make.task(), "v")
    assert claim is not None
    assert claim.state == state(log, make.task())
    assert (claim.state.owner, claim.state.assigned, claim.state.epoch) == ("v", "v", 1)


def test_owned_task_is_not_claimed_by_another(log: Log) -> None:
    make.pipeline(log)
    make.take(log, make.task(), "v")
    make.move(log, {make.task(): "w"})
    assert log.claim(make.task(), "w") is None
    assert (state(log, make.task()).owner, state(log, make.task()).epoch) == ("v", 1)


def test_each_claim_raises_the_epoch_and_fences_the_one_before(log: Log) -> None:
    make.pipeline(log)
    make.take(log, make.task())
    again = log.claim(make.task(), "w")
    assert again is not None
    assert again.state.epoch == 2
    assert log.commit([make.step(make.task(), 1, 5)]) == [False]
    assert log.commit([make.step(make.task(), 2, 5)]) == [True]


def test_released_task_goes_to_its_new_assignee_from_the_committed_offset(log: Log) -> None:
    make.pipeline(log)
    first = make.take(log, make.task(), "v")
    log.commit([make.step(make.task(), first.state.epoch, 8, watermark_us=3, add=[make.segment(1)])])
    make.move(log, {make.task(): "w"})
    assert log.release(make.task(), first.state.epoch)
    second = log.claim(make.task(), "w")
    assert second is not None
    assert (second.state.offset, second.state.watermark_us, second.state.epoch) == (8, 3, 2)
    assert make.segments(log, second) == [make.segment(1)]


def test_released_or_fenced_epoch_can_do_no_more(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    assert not log.release(make.task(), epoch + 1)
    assert log.release(make.task(), epoch)
    assert not log.release(make.task(), epoch)
    assert log.commit([make.step(make.task(), epoch, 5)]) == [False]
    assert state(log, make.task()).offset == 0


def test_never_claimed_task_takes_no_commit(log: Log) -> None:
    make.pipeline(log)
    assert log.commit([make.step(make.task(), 0, 5)]) == [False]


def test_commit_applies_outputs_offset_state_watermark_and_counters_together(log: Log) -> None:
    make.pipeline(log)
    log.create_topic("out", TopicConfig(partitions=2))
    epoch = make.take(log, make.task()).state.epoch
    outputs = [make.record("out", 1, count=3), make.record("out", 0), make.record("out", 1, count=2)]
    added = [make.segment(1, b"one", stamp=10, watermark_us=4), make.segment(2, b"", stamp=10, watermark_us=4)]
    commit = make.step(
        make.task(), epoch, 10, watermark_us=4, outputs=outputs, add=added, counters={"events": 3, "seconds": 0.5}
    )
    assert log.commit([commit]) == [True]
    assert [record.offset for record in log.read("out", 1, 0)] == [0, 3]
    assert log.end("out", 0) == 1
    seen = state(log, make.task())
    assert (seen.offset, seen.watermark_us, seen.counters) == (10, 4, {"events": 3, "seconds": 0.5})
    reclaimed = log.claim(make.task(), "w")
    assert reclaimed is not None
    assert make.segments(log, reclaimed) == added


def test_fenced_commit_applies_nothing_and_the_others_go_on(log: Log) -> None:
    make.pipeline(log)
    log.create_topic("out")
    stale = make.take(log, make.task(0)).state.epoch
    good = make.take(log, make.task(1)).state.epoch
    log.claim(make.task(0), "w")
    commits = [
        make.step(make.task(0), stale, 5, outputs=[make.record("out", 0, count=7)], add=[make.segment(1)]),
        make.step(make.task(1), good, 6, outputs=[make.record("out", 1, payload=b"good")], add=[make.segment(1)]),
        make.step(make.task(0, pipeline="gone"), 1, 5, outputs=[make.record("out", 2)]),
    ]
    assert log.commit(commits) == [False, True, False]
    assert [log.end("out", partition) for partition in range(3)] == [0, 1, 0]
    assert log.read("out", 1, 0)[0].payload == b"good"
    assert (state(log, make.task(0)).offset, state(log, make.task(1)).offset) == (0, 6)
    again = log.claim(make.task(0), "w")
    assert again is not None
    assert again.segments == []


@pytest.mark.parametrize(
    "bad",
    [
        {"offset": 9, "outputs": [make.record("unknown")]},
        {"offset": 9, "outputs": [make.record("out", 99)]},
        {"offset": 9, "outputs": [make.record("out", count=0)]},
        {"offset": 3},
        {"offset": 9, "add": [make.segment(1)]},
        {"offset": 9, "add": [make.segment(2), make.segment(2)]},
    ],
)
def test_impossible_commit_is_refused_with_all_that_came_with_it(log: Log, bad: dict[str, object]) -> None:
    make.pipeline(log)
    log.create_topic("out")
    epochs = [make.take(log, make.task(partition)).state.epoch for partition in (0, 1)]
    log.commit([make.step(make.task(1), epochs[1], 5, add=[make.segment(1)])])
    first = make.step(make.task(0), epochs[0], 4, outputs=[make.record("out")], add=[make.segment(1)])
    with pytest.raises(StreamFlowError):
        log.commit([first, make.step(make.task(1), epochs[1], **bad)])  # type: ignore[arg-type]
    assert (state(log, make.task(0)).offset, state(log, make.task(1)).offset) == (0, 5)
    assert log.end("out", 0) == 0
    assert log.commit([first]) == [True]


def test_dropped_segments_are_replaced_in_the_same_commit(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 1, add=[make.segment(n, b"%d" % n) for n in (1, 2, 3)])])
    log.commit([make.step(make.task(), epoch, 2, add=[make.segment(4, b"1+2"), make.segment(5)], drop=[1, 2, 5, 99])])
    log.commit([make.step(make.task(), epoch, 3, add=[make.segment(5, b"new")], drop=[5])])
    claim = log.claim(make.task(), "w")
    assert claim is not None
    left = [(each.info.sequence, each.payload) for each in make.segments(log, claim)]
    assert left == [(3, b"3"), (4, b"1+2"), (5, b"new")]


def test_state_is_read_by_sequence_in_the_order_asked_for(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 1, add=[make.segment(n, b"%d" % n) for n in (1, 2, 3)])])
    assert log.read_state(make.task(), epoch, [3, 1, 3]) == [b"3", b"1", b"3"]
    assert log.read_state(make.task(), epoch, []) == []
    with pytest.raises(NotFoundError, match="task 'p/s/0' has no state segment 4"):
        log.read_state(make.task(), epoch, [1, 4])


def test_state_is_not_read_by_who_was_fenced(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 1, add=[make.segment(1)])])
    again = log.claim(make.task(), "w")
    assert again is not None
    with pytest.raises(FencedError, match="task 'p/s/0' was taken over"):
        log.read_state(make.task(), epoch, [1])
    assert make.segments(log, again) == [make.segment(1)]
    log.release(make.task(), again.state.epoch)
    with pytest.raises(FencedError):
        log.read_state(make.task(), again.state.epoch, [1])


def test_files_of_dropped_state_go_and_those_of_kept_state_stay(open_log: Callable[[], Log]) -> None:
    log, other = open_log(), open_log()
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 1, add=[make.segment(1, b"old"), make.segment(2, b"kept")])])
    assert log.read_state(make.task(), epoch, [1, 2]) == [b"old", b"kept"]
    log.commit([make.step(make.task(), epoch, 2, drop=[1])])
    log.prune()
    other.prune()
    assert log.read_state(make.task(), epoch, [2]) == [b"kept"]
    with pytest.raises(NotFoundError):
        log.read_state(make.task(), epoch, [1])


def test_hold_is_that_of_the_last_commit_and_holds_only_what_comes_after(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    for hold_us, promised_us in ((4, 4), (9, 9), (12, 10), (MAX_US, 10)):
        log.commit([replace(make.step(make.task(), epoch, 1, watermark_us=10), hold_us=hold_us)])
        seen = state(log, make.task())
        assert (seen.watermark_us, seen.hold_us, seen.output_watermark_us) == (10, hold_us, promised_us)


def test_tasks_watermark_never_goes_back_and_counters_stay_without_new_ones(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 1, watermark_us=9, counters={"a": 1})])
    log.commit([make.step(make.task(), epoch, 1, watermark_us=4)])
    assert (state(log, make.task()).watermark_us, state(log, make.task()).counters) == (9, {"a": 1})


def test_several_commits_of_one_task_apply_in_order(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task()).state.epoch
    commits = [make.step(make.task(), epoch, offset, add=[make.segment(offset)]) for offset in (1, 2, 3)]
    assert log.commit(commits) == [True, True, True]
    assert state(log, make.task()).offset == 3


def test_members_are_those_who_joined_and_have_not_left(log: Log) -> None:
    make.pipeline(log)
    log.join(make.worker("w", heartbeat_us=1))
    assert log.heartbeat("w", 2)
    assert not log.heartbeat("x", 2)
    assert log.snapshot("p").workers["w"].heartbeat_us == 2
    log.leave("w")
    log.leave("w")
    assert log.snapshot("p").workers == {}
    assert not log.heartbeat("w", 3)


def test_draining_worker_stays_draining(log: Log) -> None:
    make.pipeline(log)
    log.join(make.worker("w"))
    seen = []
    for draining in (False, True, False):
        log.heartbeat("w", 1, draining=draining)
        seen.append(log.snapshot("p").workers["w"].draining)
    assert seen == [False, True, True]


def test_leaving_worker_is_fenced_and_its_tasks_unassigned(log: Log) -> None:
    make.pipeline(log, partitions=3)
    log.join(make.worker("w"))
    epoch = make.take(log, make.task(0)).state.epoch
    make.take(log, make.task(1), "v")
    make.move(log, {make.task(2): "w"})
    log.leave("w")
    assert log.commit([make.step(make.task(0), epoch, 5)]) == [False]
    tasks = log.snapshot("p").tasks
    assert [(tasks[make.task(n)].owner, tasks[make.task(n)].assigned) for n in range(3)] == [
        (None, None),
        ("v", "v"),
        (None, None),
    ]
    assert tasks[make.task(0)].epoch == epoch + 1


def test_reassign_fences_the_dead_and_moves_their_tasks_in_one_go(log: Log) -> None:
    make.pipeline(log, partitions=3)
    for name in ("v", "w"):
        log.join(make.worker(name))
    epochs = [make.take(log, make.task(n)).state.epoch for n in range(3)]
    make.move(log, {make.task(2): "v"})
    seen: list[Snapshot] = []

    def decide(snapshot: Snapshot) -> Assignment:
        seen.append(snapshot)
        return Assignment(frozenset({"w"}), {make.task(0): "v"})

    before = log.snapshot("p")
    decided = log.reassign("p", decide)
    assert seen[-1] == before
    assert decided == Assignment(frozenset({"w"}), {make.task(0): "v"})
    after = log.snapshot("p")
    assert list(after.workers) == ["v"]
    assert not log.heartbeat("w", 1)
    assert [after.tasks[make.task(n)].assigned for n in range(3)] == ["v", None, "v"]
    assert all(each.owner is None for each in after.tasks.values())
    assert log.commit([make.step(make.task(n), epochs[n], 5) for n in range(3)]) == [False] * 3
    claim = log.claim(make.task(0), "v")
    assert claim is not None
    assert claim.state.epoch == epochs[0] + 2


def test_moved_task_stays_with_its_owner_until_it_is_released(log: Log) -> None:
    make.pipeline(log)
    epoch = make.take(log, make.task(), "v").state.epoch
    make.move(log, {make.task(): "w"})
    assert (state(log, make.task()).owner, state(log, make.task()).assigned) == ("v", "w")
    assert log.commit([make.step(make.task(), epoch, 5)]) == [True]
    make.move(log, {make.task(): None})
    assert state(log, make.task()).assigned is None


def test_reassign_that_fails_changes_nothing(log: Log) -> None:
    make.pipeline(log)
    log.join(make.worker("w"))
    epoch = make.take(log, make.task()).state.epoch

    def fail(snapshot: Snapshot) -> Assignment:
        raise DataError("no")

    with pytest.raises(DataError):
        log.reassign("p", fail)
    with pytest.raises(NotFoundError):
        make.move(log, {make.task(0): "v", make.task(9): "v"}, dead=["w"])
    assert log.heartbeat("w", 1)
    assert state(log, make.task(0)).assigned == "w"
    assert log.commit([make.step(make.task(), epoch, 5)]) == [True]


def test_reset_pipeline_forgets_all_but_its_source_topics(log: Log) -> None:
    make.pipeline(log)
    log.create_topic("p.shuffle", TopicConfig(internal=True))
    log.create_topic("p.dead", TopicConfig())
    log.create_topic("pq.shuffle", TopicConfig(internal=True))
    log.join(make.worker("w"))
    epoch = make.take(log, make.task()).state.epoch
    log.commit([make.step(make.task(), epoch, 5, add=[make.segment(1)])])
    log.reset_pipeline("p")
    assert log.pipelines() == {}
    assert not log.heartbeat("w", 1)
    assert [info.name for info in log.topics()] == ["p.dead", "pq.shuffle", "t"]
    log.register_pipeline("p", "other", [StageInput("s", "t")])
    claim = make.take(log, make.task())
    assert (claim.state.offset, claim.state.watermark_us, claim.segments) == (0, MIN_US, [])


def test_reset_spares_internal_topics_of_a_pipeline_with_a_longer_name(log: Log) -> None:
    make.pipeline(log, name="p")
    log.create_topic("p.q.shuffle", TopicConfig(internal=True))
    log.register_pipeline("p.q", "shape", [StageInput("s", "p.q.shuffle")])
    log.reset_pipeline("p")
    assert log.topic("p.q.shuffle").config.internal


def test_worker_from_before_a_reset_stays_fenced(log: Log) -> None:
    make.pipeline(log)
    old = make.take(log, make.task()).state.epoch
    for _ in range(2):
        log.reset_pipeline("p")
        make.pipeline(log)
    new = make.take(log, make.task()).state.epoch
    assert new > old
    assert log.commit([make.step(make.task(), old, 5)]) == [False]
    assert not log.release(make.task(), old)


def test_snapshot_sees_offset_and_outputs_of_the_same_instant(open_log: Callable[[], Log]) -> None:
    log, reader = open_log(), open_log()
    make.pipeline(log, partitions=1)
    log.create_topic("u", TopicConfig(partitions=1))
    log.register_pipeline("q", "shape", [StageInput("s", "t"), StageInput("r", "u")])
    of = make.task(pipeline="q")
    epoch = make.take(log, of).state.epoch
    torn: list[tuple[int, int, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen = reader.snapshot("q")
            numbers = (seen.tasks[of].offset, seen.ends["u", 0], seen.tasks[of].counters.get("n", 0))
            if len(set(numbers)) > 1:
                torn.append(numbers)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(1, 100):
        log.commit([make.step(of, epoch, n, outputs=[make.record("u")], counters={"n": n})])
    done.set()
    watcher.join()
    assert torn == []


def test_one_of_many_concurrent_claimers_wins(open_log: Callable[[], Log], clock: ManualClock) -> None:
    handles = [open_log() for _ in range(4)]
    make.pipeline(handles[0], partitions=1)
    won: list[str] = []

    def race(log: Log, name: str) -> None:
        def decide(snapshot: Snapshot) -> Assignment:
            free = snapshot.tasks[make.task()].assigned is None
            return Assignment(moves={make.task(): name} if free else {})

        log.reassign("p", decide)
        if log.claim(make.task(), name):
            won.append(name)

    threads = [threading.Thread(target=race, args=(log, str(n))) for n, log in enumerate(handles)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert handles[0].snapshot("p").tasks[make.task()].owner == won[0]
