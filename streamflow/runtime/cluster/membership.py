"""Who runs what: a Faust app, as a member of the pipeline's group. What Faust is asked for is its life cycle, its
membership and its sticky assignor; no event goes through it.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import faust
from faust.types.tuples import TP

from streamflow.base.errors import PipelineError
from streamflow.topics.kafka.connection import Address

logger = logging.getLogger(__name__)

SESSION_S = 10.0
"""Silence after which a member is taken for dead: Faust's own 60 s would stop its tasks for that long."""
HEARTBEAT_S = 1.0
GUARANTEE = "PROCESSING_GUARANTEE"
"""The variable by which users of Faust set it."""


class Membership:
    """Of one worker in the group of `pipeline`; `topic` has a partition for each task. `told` is called, in the
    event loop, when the group has said what is `assigned`. `static_id`: a name that is kept, so that who comes back
    soon under it gets what it had without a rebalance.

    PipelineError if Faust's own exactly-once is asked for: it loses events when workers are killed."""

    def __init__(
        self, address: Address, pipeline: str, topic: str, told: Callable[[], None], static_id: str | None = None
    ) -> None:
        if os.environ.get(GUARANTEE, "").strip().lower() == "exactly_once":
            raise PipelineError(
                f"{GUARANTEE} asks for Faust's own exactly-once, which loses events when workers are killed. Unset it: "
                "StreamFlow's commits are Kafka transactions of its own"
            )
        self.assigned: frozenset[int] = frozenset()
        self._told = told
        self._folder = tempfile.TemporaryDirectory(prefix="streamflow-faust-")
        self._app = faust.App(
            group(pipeline),
            broker=";".join(f"kafka://{server}" for server in address.servers),
            broker_credentials=_credentials(address),
            processing_guarantee="at_least_once",
            consumer_group_instance_id=static_id,
            broker_session_timeout=SESSION_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            datadir=self._folder.name,
            store="memory://",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            loop=asyncio.get_running_loop(),
        )
        # Only an agent makes the app a member; nobody ever writes to its topic.
        self._app.agent(self._app.topic(topic, value_type=bytes), name="tasks")(_nothing)
        signal: Any = self._app.on_partitions_assigned
        signal.connect(self._on_assigned, weak=False)

    async def start(self) -> None:
        await self._app.start()

    async def stop(self) -> None:
        await self._app.stop()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        return not (self._app.crashed or self._app.should_stop)

    async def _on_assigned(self, sender: Any, assigned: set[TP], **_: Any) -> None:
        # What is taken away is not told before what is given instead: whoever has a task works on until another claims
        # it, so what stays does not stop.
        now = frozenset(place.partition for place in assigned)
        logger.info("group gives %s tasks (%s before)", len(now), len(self.assigned))
        self.assigned = now
        self._told()


def group(pipeline: str) -> str:
    """The name of its consumer group."""
    return f"streamflow.{pipeline}"


async def _nothing(stream: Any) -> None:
    async for _ in stream.noack().events():
        pass


def _credentials(address: Address) -> Any:
    options: Mapping[str, Any] = address.client_options()
    protocol = str(options.get("security_protocol", "PLAINTEXT"))
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=options.get("sasl_plain_username"),
            password=options.get("sasl_plain_password"),
            mechanism=options.get("sasl_mechanism", "PLAIN"),
            ssl_context=options.get("ssl_context"),
        )
    return faust.SSLCredentials(options["ssl_context"]) if protocol == "SSL" else None
