"""A broker that is away for a while, in the middle of publishing and reading: calls wait and go on, nothing is lost,
and nothing is there twice."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadgen.kafka.broker import Cluster
from streamflow.base.errors import StreamFlowError
from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog, connection
from streamflow.topics.protocol import Producer, TopicConfig

pytestmark = pytest.mark.kafka

BATCHES, BATCH = 40, 50
AWAY_S = 1.5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("away")) as started:
        yield started


def paused(cluster: Cluster) -> None:
    cluster.pause(0)
    threading.Event().wait(AWAY_S)
    cluster.resume(0)


def restarted(cluster: Cluster) -> None:
    cluster.kill(0)
    threading.Event().wait(AWAY_S)
    cluster.restart(0)


@pytest.mark.parametrize("away", [paused, restarted])
def test_broker_that_is_away_for_a_while_loses_and_doubles_nothing(
    cluster: Cluster, away: Callable[[Cluster], None]
) -> None:
    topic = f"away-{away.__name__}"
    ours, theirs = KafkaLog(cluster.url), KafkaLog(cluster.url)
    ours.create_topic(topic, TopicConfig(partitions=1))
    read: list[bytes] = []
    failed: list[BaseException] = []
    begun = threading.Event()

    def publish() -> None:
        try:
            for sequence in range(BATCHES):
                events = [b"%d.%d" % (sequence, n) for n in range(BATCH)]
                ours.publish([codec.encode_json(topic, 0, events, range(BATCH))], Producer("p", sequence))
                if sequence == 5:
                    begun.set()
        except BaseException as error:
            failed.append(error)
        finally:
            begun.set()

    def follow() -> None:
        offset = 0
        try:
            while len(read) < BATCHES * BATCH and not failed:
                for record in theirs.read(topic, 0, offset):
                    read.extend(codec.json_documents(record))
                    offset = record.end
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=each) for each in (publish, follow)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    away(cluster)
    for thread in threads:
        thread.join(150)
        assert not thread.is_alive()
    ours.close()
    theirs.close()
    assert not failed, failed
    assert read == [b"%d.%d" % (sequence, n) for sequence in range(BATCHES) for n in range(BATCH)]


def test_broker_that_stays_away_is_told_when_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)
    with Cluster(tmp_path / "gone") as gone:
        log = KafkaLog(gone.url)
        log.create_topic("t", TopicConfig(partitions=1))
        gone.kill(0)
        for call in (lambda: log.read("t", 0, 0), lambda: log.publish([codec.encode_json("t", 0, [b"1"], [0])])):
            with pytest.raises(StreamFlowError, match=r"Is it running|can't be reached"):
                call()
        gone.restart(0)
        log.close()
