"""The gRPC server: binds a port, routes calls to the services, drains when it is told to stop."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from streamflow.base.clock import SystemClock
from streamflow.base.errors import ConflictError
from streamflow.pubsub.errors import answering, not_served
from streamflow.pubsub.names import Names
from streamflow.pubsub.protos import StreamingPullRequest
from streamflow.pubsub.publisher import Publisher
from streamflow.pubsub.subscriber import Subscriber
from streamflow.pubsub.usage import Usages
from streamflow.topics.client import Client, connect

REQUEST_BYTES_MAX = 12_000_000
"""What Publish takes, and room for its refusal to be ours rather than the transport's."""
GRACE_S = 5.0
"""Calls in flight have so long to end when the server stops."""
PRUNE_S = 60.0
"""What retention no longer keeps goes this often."""
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Two servers on one port would share its connections.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)

log = logging.getLogger(__name__)


async def serve(
    data: str | Path,
    *,
    host: str,
    port: int,
    project: str | None,
    partitions: int,
    stopping: asyncio.Event,
    started: Callable[[str], None],
) -> None:
    """Serve the topics and subscriptions at `data` (see `connect`) until `stopping` is set, then drain: streams end,
    calls in flight are answered, leases that were not handed out go back. `started` is called once, with the address;
    port 0 takes a free one. ConflictError if the port can't be had."""
    async with connect(data) as client:
        server = aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_handler(client, project, partitions, stopping),))
        address = f"[{host}]" if ":" in host else host
        try:
            bound = server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise ConflictError(
                f"port {port} on '{host}' can't be had: it is taken, or that is no address of this machine. "
                "Choose another --port or --host"
            ) from error
        await server.start()
        pruning = asyncio.create_task(_prune(client))
        started(f"{address}:{bound}")
        try:
            await stopping.wait()
        finally:
            stopping.set()
            pruning.cancel()
            await server.stop(GRACE_S)
            with suppress(asyncio.CancelledError):
                await pruning


async def _prune(client: Client) -> None:
    while True:
        await asyncio.sleep(PRUNE_S)
        try:
            await client.prune()
        except Exception as error:
            log.error("pruning failed, it is tried again in %s s", PRUNE_S, exc_info=error)


def _handler(client: Client, project: str | None, partitions: int, stopping: asyncio.Event) -> "_Routes":
    names = Names(project)
    usages = Usages(client, SystemClock())
    subscriber = Subscriber(client, usages, names, stopping)
    routes: dict[str, Any] = {}
    for service in (Publisher(client, usages, names, partitions), subscriber):
        for method, (request, function) in service.METHODS.items():
            routes[f"/google.pubsub.v1.{type(service).__name__}/{method}"] = grpc.unary_unary_rpc_method_handler(
                answering(getattr(service, function)),
                request_deserializer=request.FromString,
                response_serializer=_serialized,
            )
    routes["/google.pubsub.v1.Subscriber/StreamingPull"] = grpc.stream_stream_rpc_method_handler(
        answering(subscriber.streaming_pull),
        request_deserializer=StreamingPullRequest.FromString,
        response_serializer=_serialized,
    )
    return _Routes(routes)


class _Routes:
    """Of each call the one who answers; what nobody does is refused with a hint."""

    def __init__(self, routes: dict[str, Any]) -> None:
        self._routes = routes

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        return self._routes.get(method) or grpc.unary_unary_rpc_method_handler(answering(_refusing(method)))


def _refusing(method: str) -> Callable[[Any, Any], Any]:
    async def refuse(request: Any, context: Any) -> Any:
        service, _, call = method.strip("/").rpartition("/")
        raise not_served(f"'{call}' of {service}", "Topics, subscriptions and snapshots are; schemas and IAM are not")

    return refuse


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())
