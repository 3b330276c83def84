"""Subscriptions: Pub/Sub's semantics as pure cores. No I/O, no clock, no threads; a backend puts them on its log.

`filter.py` parses and matches filters; `settings.py` has what can be set, and what follows from it alone
(`push.py`: where messages are pushed to). The rest is
the lease machine of one subscription on one partition: `lease.py` is its face, `decisions.py` what it is told and
answers, `ledger.py` its sets (`bitmaps.py`), `ordering.py` and `ordered.py` what ordering keys add, `sizes.py` how
backlogs get their bytes and ages, `encoding.py` its bytes.

How a backend runs a machine
----------------------------
*One holder.* There is one machine for each (subscription, partition), and whoever changes it holds that pair's lock:
a mutex in memory, the write transaction of the folder's SQLite, the group's assignment of the partition in Kafka. An
event is: take the lock, get the machine (`from_bytes` if another process may have changed it, which a version next to
the state tells), `appended` with the log's end, `trimmed` with the start of what is kept (the later one of the log's
start and the first message younger than `retention_s`), the event, store `to_bytes`, release. The name of an ack id
on the wire holds the partition and the four numbers of `AckId`.

*Filter and keys.* With a filter the backend reads what `unscanned` names and tells `scanned` what matches, before a
pull and before a backlog. With ordering keys it reads the keys of `candidates` and passes them to `pull`, under one
lock; if that came back empty though there were candidates it asks again, since these wait for their keys now.

*What is durable when.* Acks, nacks, seeks and `forwarded` are durable before they are confirmed. Grants need not be
at least once: the state in memory is ahead of the stored one, and each ack stores all of it. Exactly once, grants are
durable before the messages are handed out: else a second machine, read back after a crash, would hand them out again
while the first holder works, and give the same ids. Ends of leases (`expire`) are never stored for their own sake:
they are repeated from the same deadlines, and nothing is told about them before the next pull, which is a grant.

*After `kill -9`.* At least once, what was granted and not stored is delivered again, with the same ids, so that then
acks of either delivery count; what was stored keeps its lease until its deadline. Exactly once nothing differs from a
pause: all that was handed out is stored, acks that were not confirmed either hold or can be repeated. An ack that was
stored and whose answer was lost is STALE when repeated: the shell answers that it can't hold any more, as Pub/Sub
does.

*Dead letters.* After each `pull`, `expire` and nack, `dead_letters` is published with origin and attempts, and
`forwarded` is stored: both in one transaction where topic and state share one; else published first, so that one may
come twice but none is lost (Pub/Sub promises no more). They stay unacked and undelivered in between.

*Kafka.* `encode_acks` goes into the metadata of the group's commit, whose offset is the machine's `floor`;
`decode_acks` and `seek_to` begin the next holder's machine. Leases, failures and acks that did not fit are forgotten:
after a crash or a rebalance these are delivered once more. Exactly once then needs the state (`to_bytes`) in a place
of its own, a compacted topic written in the same transaction.

*Snapshots, seeks, expiry.* `encode_snapshot` of all partitions under one lock each, with `snapshot_expires_us`; the
log keeps what is after the floor of each snapshot. `expires_us` of the latest `active_us` over the partitions says
when the subscription is deleted; a machine that is `detach`ed refuses everything.

*Flow control.* The machine bounds what is outstanding for all holders together (`outstanding_…_max`); what one stream
may hold is counted by the stream, which knows what it was given, and passed to `pull` as room.
"""

from streamflow.topics.subscriptions.decisions import AckId, AckStatus, DeadLetter, Pulled
from streamflow.topics.subscriptions.filter import Filter, parse
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.push import Oidc, PushConfig
from streamflow.topics.subscriptions.settings import DeadLetterPolicy, RetryPolicy, SubscriptionSettings
from streamflow.topics.subscriptions.sizes import RecordSizes, Sizes

__all__ = [
    "AckId",
    "AckStatus",
    "DeadLetter",
    "DeadLetterPolicy",
    "Filter",
    "LeaseMachine",
    "Oidc",
    "Pulled",
    "PushConfig",
    "RecordSizes",
    "RetryPolicy",
    "Sizes",
    "SubscriptionSettings",
    "parse",
]
