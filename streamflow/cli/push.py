"""`streamflow sub push`: deliver a subscription to an HTTP endpoint until told to stop."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from streamflow.cli.folders import place
from streamflow.cli.options import Subscription, TopicsData
from streamflow.cli.output import say, told_errors
from streamflow.topics.client.client import PUSH_REQUESTS_MAX, connect
from streamflow.topics.subscriptions.push import PushConfig

CREATE_FIRST = "Give the folder that holds the subscription."
EXAMPLES = (
    "Examples:\n\n"
    "`streamflow sub push billing --data demo-data`\n\n"
    "`streamflow sub push billing --data demo-data --endpoint http://localhost:8080/events`"
)


def push(
    name: Subscription,
    data: TopicsData,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where to, in place of what the subscription says.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="At most so many at once.")] = PUSH_REQUESTS_MAX,
) -> None:
    """POST each message of a subscription to its endpoint: 2xx acks, all else nacks. Ends on Ctrl-C or SIGTERM, when
    the requests that are out are done. The token of an endpoint that wants one is taken from STREAMFLOW_PUSH_TOKEN."""
    with told_errors():
        config = None if endpoint is None else PushConfig(endpoint)
        asyncio.run(_push(place(data, CREATE_FIRST), name, config, requests))
        say(f"stopped pushing {name}")


async def _push(data: str | Path, name: str, config: PushConfig | None, requests_max: int) -> None:
    async with connect(data) as client:
        pushing = asyncio.create_task(client.push(name, config, requests_max=requests_max))
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, pushing.cancel)
        with suppress(asyncio.CancelledError):
            await pushing
