"""The durable default: a log in a folder, shared by many processes of one machine, without a server.

Segment files hold bytes (`segments.py`), one SQLite database holds the truth (`truth.py`, with the
statements on topics in `topic_rows.py` and those on pipelines in `task_rows.py`), and `log.py` joins them:
bytes are durable first, then one transaction makes them part of the log. Bytes that no row points to are
garbage, whatever they say.

After a power cut all that was confirmed is there, and what was not is there as a whole or not at all. Of damage by the
disk itself the checksums of entries tell. SQLite's log has checksums, too: what stands before the damage stays true.
The pages of its database have none: what breaks their structure or contradicts the segments is refused, but another
number in them may go unseen.
"""

from streamflow.topics.embedded.log import EmbeddedLog

__all__ = ["EmbeddedLog"]
