"""Topics on Kafka, with the extra `streamflow[kafka]`. Here live the connection (`connection.py`), what a message looks
like (`messages.py`), what is said to Kafka (`client.py`, `publishing.py`), what it has no place for (`notes.py`), exact
backlogs, and the handle (`log.py`).

Any Kafka client can read what is published here and publish what is read here: an event is a plain message.
"""

from streamflow.topics.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
