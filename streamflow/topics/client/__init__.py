"""The client: what an application uses to publish and subscribe. Async; blocking calls run in a few threads.

`consuming.py` and `sending.py` are calls on the log, blocking and without memory; `publishing.py` and `subscribing.py`
batch, wait, bound and extend on top of them; `pushing.py` sends a stream to an endpoint (`requests.py` what,
`window.py` how much at once); `client.py` makes them and owns what they share; `sync.py` is the same for code without
an event loop. No leases and no storage here: these are the store's.
"""

from streamflow.topics.client.client import Client, connect
from streamflow.topics.client.message import Message
from streamflow.topics.client.publishing import AsyncPublisher, Batching, PublishFlow, Retries
from streamflow.topics.client.subscribing import Flow, Subscriber
from streamflow.topics.client.sync import SyncClient, connect_sync

__all__ = [
    "AsyncPublisher",
    "Batching",
    "Client",
    "Flow",
    "Message",
    "PublishFlow",
    "Retries",
    "Subscriber",
    "SyncClient",
    "connect",
    "connect_sync",
]
