"""What is particular to the folder: files, damage, versions, pruning of files, closing."""

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, CorruptionError, PipelineError
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.embedded.segments import HEADER_BYTES
from streamflow.topics.protocol import StageInput, TopicConfig


def segment_files(log: EmbeddedLog, below: str = "topics") -> list[Path]:
    return sorted(Path(log.url.removeprefix("file:")).glob(f"{below}/*/*.seg"))


def payloads(log: EmbeddedLog, partition: int = 0) -> list[bytes]:
    return [record.payload for record in log.read("t", partition, 0)]


@pytest.fixture
def published(embedded: EmbeddedLog) -> EmbeddedLog:
    """Three records "a…", "b…", "c…" in one segment."""
    embedded.create_topic("t")
    embedded.publish([make.record(payload=letter * 100) for letter in (b"a", b"b", b"c")])
    return embedded


def test_all_is_there_again_after_reopening(tmp_path: Path, published: EmbeddedLog) -> None:
    make.pipeline(published, partitions=16)
    epoch = make.take(published, make.task()).state.epoch
    published.commit([make.step(make.task(), epoch, 2, add=[make.segment(1)], counters={"n": 1})])
    before = (published.read("t", 0, 0), published.snapshot("p"), published.topics())
    published.close()
    with closing(EmbeddedLog(tmp_path / "log")) as again:
        assert (again.read("t", 0, 0), again.snapshot("p"), again.topics()) == before
        claim = again.claim(make.task(), "w")
        assert claim is not None
        assert make.segments(again, claim) == [make.segment(1)]
        assert again.publish([make.record()]) == [3]


@pytest.mark.parametrize("position", [0, 5, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 99])
def test_flipped_byte_is_detected_and_its_neighbours_are_read(published: EmbeddedLog, position: int) -> None:
    (path,) = segment_files(published)
    start = HEADER_BYTES + 100
    with path.open("r+b") as file:
        file.seek(start + position)
        (byte,) = file.read(1)
        file.seek(start + position)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(CorruptionError, match=rf"entry at byte {start} of segment 'topics/t/{path.name}'"):
        published.read("t", 0, 0)
    assert payloads_of(published, 0) == [b"a" * 100]
    assert payloads_of(published, 2) == [b"c" * 100]


def payloads_of(log: EmbeddedLog, offset: int) -> list[bytes]:
    return [record.payload for record in log.read("t", 0, offset, max_events=1)]


def test_damaged_state_is_detected(embedded: EmbeddedLog) -> None:
    make.pipeline(embedded)
    epoch = make.take(embedded, make.task()).state.epoch
    embedded.commit([make.step(make.task(), epoch, 1, add=[make.segment(1, b"x" * 50)])])
    (path,) = segment_files(embedded, "state")
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 7)
        file.write(b"?")
    with pytest.raises(CorruptionError, match="checksum"):
        embedded.read_state(make.task(), epoch, [1])


def test_torn_tail_is_harmless_to_readers_and_the_writer(published: EmbeddedLog, tmp_path: Path) -> None:
    (path,) = segment_files(published)
    written = 3 * (HEADER_BYTES + 100)
    os.truncate(path, written)
    assert len(payloads(published)) == 3
    with path.open("ab") as file:
        file.write(os.urandom(5_000))
    assert len(payloads(published)) == 3
    published.publish([make.record(payload=b"d" * 100)])
    with closing(EmbeddedLog(tmp_path / "log")) as other:
        other.publish([make.record(payload=b"e" * 100)])
        assert payloads(other) == payloads(published) == [letter * 100 for letter in (b"a", b"b", b"c", b"d", b"e")]


def test_segment_shorter_than_its_index_is_detected(published: EmbeddedLog) -> None:
    (path,) = segment_files(published)
    os.truncate(path, 2 * (HEADER_BYTES + 100) + 20)
    with pytest.raises(CorruptionError, match="the file ends before it"):
        published.read("t", 0, 0)
    assert payloads_of(published, 1) == [b"b" * 100]


def test_missing_segment_is_corruption(published: EmbeddedLog) -> None:
    (path,) = segment_files(published)
    path.unlink()
    with pytest.raises(CorruptionError, match=path.name):
        published.read("t", 0, 0)


def test_closed_segments_carry_no_zeroed_space(published: EmbeddedLog) -> None:
    (path,) = segment_files(published)
    published.close()
    assert path.stat().st_size == 3 * (HEADER_BYTES + 100)


def test_segments_roll_at_their_size_also_within_one_publish(tmp_path: Path, clock: ManualClock) -> None:
    with closing(EmbeddedLog(tmp_path / "log", clock=clock, roll_bytes=1_000)) as log:
        log.create_topic("t")
        written = [b"%03d" % n * 100 for n in range(10)]
        log.publish([make.record(payload=payload) for payload in written[:8]])
        log.publish([make.record(payload=payload) for payload in written[8:]])
        log.publish([make.record(payload=b"x" * 5_000)])
        assert payloads(log) == [*written, b"x" * 5_000]
        assert len(segment_files(log)) == 6
        assert max(path.stat().st_size for path in segment_files(log)[:-1]) < 64_000


def test_prune_frees_the_files_of_expired_records(tmp_path: Path, clock: ManualClock) -> None:
    with closing(EmbeddedLog(tmp_path / "log", clock=clock, roll_bytes=1_000)) as log:
        log.create_topic("t", TopicConfig(retention_s=60))
        for n in range(10):
            log.publish([make.record(payload=b"%d" % n * 400)])
            clock.advance(10)
        before = segment_files(log)
        freed = log.prune()
        after = segment_files(log)
        assert set(after) < set(before)
        assert freed > 0
        assert [record.offset for record in log.read("t", 0, 0)] == [4, 5, 6, 7, 8, 9]


def test_prune_spares_what_a_living_writer_appends_to(
    published: EmbeddedLog, tmp_path: Path, clock: ManualClock
) -> None:
    published.delete_topic("t")
    with closing(EmbeddedLog(tmp_path / "log", clock=clock)) as other:
        assert other.prune() == 0
        assert len(segment_files(published)) == 1
        published.close()
        assert other.prune() > 0
        assert segment_files(published) == []


def test_writer_goes_on_after_its_own_file_was_pruned(published: EmbeddedLog) -> None:
    published.delete_topic("t")
    assert published.prune() > 0
    assert segment_files(published) == []
    published.create_topic("t")
    published.publish([make.record(payload=b"new")])
    assert payloads(published) == [b"new"]


def test_prune_removes_what_no_transaction_ever_published(published: EmbeddedLog, tmp_path: Path) -> None:
    orphan = tmp_path / "log" / "topics" / "gone" / "0123-0.seg"
    orphan.parent.mkdir()
    orphan.write_bytes(b"half an entry")
    assert published.prune() == len(b"half an entry")
    assert not orphan.parent.exists()
    assert len(payloads(published)) == 3


def test_prune_frees_dropped_state(tmp_path: Path, clock: ManualClock) -> None:
    with closing(EmbeddedLog(tmp_path / "log", clock=clock, roll_bytes=1_000)) as log:
        make.pipeline(log)
        epoch = make.take(log, make.task()).state.epoch
        for n in range(1, 11):
            log.commit([make.step(make.task(), epoch, n, add=[make.segment(n, b"x" * 600)], drop=[n - 1])])
        log.prune()
        assert len(segment_files(log, "state")) == 1
        log.reset_pipeline("p")
        assert log.prune() > 0
        assert segment_files(log, "state") == []


def test_reading_while_another_handle_prunes_finds_what_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "log"
    with (
        closing(EmbeddedLog(folder, clock=clock, roll_bytes=500)) as log,
        closing(EmbeddedLog(folder, clock=clock)) as pruner,
    ):
        log.create_topic("t", TopicConfig(retention_s=5))
        done = threading.Event()
        failures: list[Exception] = []

        def prune() -> None:
            while not done.is_set():
                try:
                    pruner.prune()
                except Exception as error:
                    failures.append(error)

        thread = threading.Thread(target=prune)
        thread.start()
        try:
            for n in range(150):
                log.publish([make.record(payload=b"%d" % n * 100)])
                clock.advance(1)
                records = log.read("t", 0, 0)
                assert records[-1].offset == n
                assert [record.payload for record in records] == [b"%d" % record.offset * 100 for record in records]
        finally:
            done.set()
            thread.join()
        assert failures == []


def test_refused_write_publishes_nothing_and_later_ones_succeed(published: EmbeddedLog) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            published.publish([make.record(payload=b"x" * 3_000_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert published.end("t", 0) == 3
    assert published.publish([make.record(payload=b"d")]) == [3]
    assert payloads(published) == [b"a" * 100, b"b" * 100, b"c" * 100, b"d"]


def alter(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "streamflow.db")) as db:
        db.execute(statement)
        db.commit()


def test_folder_of_a_newer_format_is_refused(tmp_path: Path, embedded: EmbeddedLog) -> None:
    embedded.close()
    alter(tmp_path / "log", "PRAGMA user_version = 99")
    with pytest.raises(ConflictError, match="has format 99"):
        EmbeddedLog(tmp_path / "log")


def test_folder_of_an_older_format_is_refused(tmp_path: Path, embedded: EmbeddedLog) -> None:
    embedded.close()
    alter(tmp_path / "log", "PRAGMA user_version = 1")
    with pytest.raises(ConflictError, match="has format 1, which this StreamFlow has replaced"):
        EmbeddedLog(tmp_path / "log")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE chunk SET count = 2 WHERE offset = 2", "has 2 events after offset 2, but .* has 1 there"),
        ("UPDATE chunk SET offset = 7 WHERE offset = 2", "offset 7 .* after offset 2"),
        ("DELETE FROM chunk WHERE offset = 1", "offset 2 .* after offset 1"),
        ("DELETE FROM part WHERE partition = 0", "has lost partition 0 of topic 't'"),
        ("DELETE FROM meta", "has lost what it knows of the folder"),
    ],
)
def test_database_that_contradicts_itself_or_the_segments_is_corruption(
    tmp_path: Path, published: EmbeddedLog, statement: str, says: str
) -> None:
    alter(tmp_path / "log", statement)

    def use() -> None:
        with closing(EmbeddedLog(tmp_path / "log")) as again:
            again.read("t", 0, 0)
            again.end("t", 0)

    with pytest.raises(CorruptionError, match=f"{says}.* Restore"):
        use()


def test_state_whose_file_was_lost_is_corruption_and_not_a_fence(embedded: EmbeddedLog) -> None:
    make.pipeline(embedded)
    epoch = make.take(embedded, make.task()).state.epoch
    embedded.commit([make.step(make.task(), epoch, 1, add=[make.segment(1)])])
    (path,) = segment_files(embedded, "state")
    path.unlink()
    with pytest.raises(CorruptionError, match="is missing but still needed"):
        embedded.read_state(make.task(), epoch, [1])


def test_folder_partitioned_by_another_polars_is_refused(tmp_path: Path, embedded: EmbeddedLog) -> None:
    embedded.close()
    expected = ",".join(map(str, pl.Series(["a", "b"]).hash(0)))
    with closing(sqlite3.connect(tmp_path / "log" / "streamflow.db")) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'polars_row_hash'").fetchall() == [(expected,)]
    alter(tmp_path / "log", "UPDATE meta SET value = '1,2' WHERE key = 'polars_row_hash'")
    with pytest.raises(ConflictError, match="another Polars version"):
        EmbeddedLog(tmp_path / "log")


def test_other_databases_and_rubbish_are_refused(tmp_path: Path) -> None:
    alter(tmp_path, "CREATE TABLE theirs (x)")
    with pytest.raises(ConflictError, match="not a StreamFlow log"):
        EmbeddedLog(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "streamflow.db").write_bytes(b"rubbish" * 1_000)
    with pytest.raises(CorruptionError, match="damaged"):
        EmbeddedLog(tmp_path / "log")


def test_closed_handle_says_so(published: EmbeddedLog) -> None:
    published.close()
    published.close()
    for use in (published.topics, lambda: published.publish([make.record()]), lambda: published.wait_changed(0)):
        with pytest.raises(PipelineError, match="was closed"):
            use()


FORKING = """
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import topic_making as make
from streamflow.base.errors import PipelineError
from streamflow.topics.embedded import EmbeddedLog
log = EmbeddedLog(sys.argv[2])
log.create_topic("t")
log.publish([make.record(payload=b"before")])
wait, go = os.pipe()
child = os.fork()
if child == 0:
    try:
        log.publish([make.record()])
    except PipelineError as error:
        os.read(wait, 1)
        log.close()
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(0)
log.publish([make.record(payload=b"after")])
os.write(go, b"!")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print([bytes(record.payload) for record in log.read("t", 0, 0)])
log.close()
"""


def test_forked_child_may_not_use_the_handle_and_does_no_harm_by_closing_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(Path(__file__).parent), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["7", "[b'before', b'after']"]


def test_dropped_handle_lets_go_of_its_files(tmp_path: Path, embedded: EmbeddedLog) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.create_topic("t")
    log.publish([make.record()])
    log.delete_topic("t")
    assert embedded.prune() == 0
    del log
    assert embedded.prune() > 0


def test_handles_opened_at_once_create_one_log(tmp_path: Path) -> None:
    barrier = threading.Barrier(6)
    opened: list[EmbeddedLog] = []

    def open_one() -> None:
        barrier.wait()
        opened.append(EmbeddedLog(tmp_path / "log"))

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened[0].create_topic("t")
    assert [log.topic("t").name for log in opened] == ["t"] * 6
    for log in opened:
        log.close()


def test_many_pruned_rows_go_in_several_transactions(embedded: EmbeddedLog, clock: ManualClock) -> None:
    embedded.create_topic("t", TopicConfig(partitions=1, retention_s=60))
    embedded.publish([make.record()] * 25_000)
    clock.advance(30)
    embedded.publish([make.record()])
    clock.advance(40)
    embedded.prune()
    assert [record.offset for record in embedded.read("t", 0, 0)] == [25_000]


def test_snapshot_of_a_hundred_tasks_takes_few_statements(embedded: EmbeddedLog) -> None:
    embedded.create_topic("t", TopicConfig(partitions=50))
    embedded.register_pipeline("p", "shape", [StageInput("a", "t"), StageInput("b", "t")])
    statements: list[str] = []
    with embedded._truth.view() as db:
        db.set_trace_callback(statements.append)
    embedded.snapshot("p")
    with embedded._truth.view() as db:
        db.set_trace_callback(None)
    assert len([each for each in statements if each.startswith("SELECT")]) == 5
