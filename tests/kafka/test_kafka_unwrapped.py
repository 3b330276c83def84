"""Messages without aiokafka's object around each: the same as with it."""

import aiokafka
import pytest

from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.kafka.messages import Received
from streamflow.topics.kafka.unwrapped import KNOWN

pytestmark = pytest.mark.kafka


async def _fetched(log: KafkaLog, topic: str) -> list[Received]:
    return await log._client.fetch(aiokafka.TopicPartition(topic, 0), 0, 3, max_events=3, max_bytes=1_000)


@pytest.mark.parametrize("version", [aiokafka.__version__, "99.0.0"])
def test_bare_messages_are_read_as_wrapped_ones(
    version: str, kafka_url: str, topic: str, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aiokafka.__version__.startswith(KNOWN), "look whether `unwrapped.py` knows the inside of this version"
    sent = codec.encode_json(topic, 0, [b"1", b"2", b"3"], [5, -6, 7], [None, b"k", None], [None, {"a": "b"}, None])
    log.publish([sent])
    monkeypatch.setattr(aiokafka, "__version__", version)
    reader = KafkaLog(kafka_url)
    try:
        while not (read := reader.read(topic, 0, 0)):
            pass
        assert codec.decode(read[0]).equals(codec.decode(sent))
        wrapped = {type(message).__name__ for message in reader._loop.run(_fetched(reader, topic))}
        assert wrapped == ({"ConsumerRecord"} if version == "99.0.0" else {"DefaultRecord"})
    finally:
        reader.close()
