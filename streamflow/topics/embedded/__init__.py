"""The durable default: a log in a folder, shared by many processes of one machine, without a server.

Segment files hold bytes (`segments.py`), one SQLite database holds the truth (`truth.py`, with the
statements on topics in `topic_rows.py` and those on pipelines in `task_rows.py`), and `log.py` joins them:
bytes are durable first, then one transaction makes them part of the log. Bytes that no row points to are
garbage, whatever they say.
"""

from streamflow.topics.embedded.log import EmbeddedLog

__all__ = ["EmbeddedLog"]
