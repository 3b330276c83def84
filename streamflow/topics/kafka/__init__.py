"""Topics and subscriptions on Kafka, with the extra `streamflow[kafka]`.

Here live the connection (`connection.py`), what a message looks like (`messages.py`), what is said to Kafka
(`client.py`, `publishing.py`), what it has no place for (`notes.py`), exact backlogs, and the handle (`log.py`). Of
subscriptions: the store (`subscriptions.py`), what handles of a process share (`shared.py`), a process's place in a
group (`membership.py`) and the machines it holds (`holding.py`, `running.py`, `index.py`), and where they are stored
(`committed.py`, `states.py`, `subscription_notes.py`).

Any Kafka client can read what is published here and publish what is read here: an event is a plain message.
"""

from streamflow.topics.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
