"""`streamflow pubsub-server`: Google's Pub/Sub clients on StreamFlow's topics."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from streamflow.base.errors import NotFoundError
from streamflow.cli.folders import shown_data
from streamflow.cli.output import say, told_errors
from streamflow.topics.protocol import PARTITIONS_DEFAULT

app = typer.Typer()


@app.command(
    "pubsub-server",
    epilog="Examples:\n\n"
    "`streamflow pubsub-server --data data` — then, where your program runs, "
    "`export PUBSUB_EMULATOR_HOST=127.0.0.1:8085`\n\n"
    "`streamflow pubsub-server --data memory:// --port 0` — for tests: a free port, and nothing is kept",
)
def pubsub_server(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="Where the topics and subscriptions are: a folder (made if it is new), which other processes can use "
            "at the same time, or memory://, which is gone when the server ends.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on. Anybody who reaches it may do all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8085,
    project: Annotated[
        str | None,
        typer.Option(
            help="Serve only this Google project. Without it a project is only part of a name: all see the same topics."
        ),
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of the topics that clients create: how many readers can share one.")
    ] = PARTITIONS_DEFAULT,
) -> None:
    """Serve topics to Google Pub/Sub's clients: `google-cloud-pubsub` and its like work unchanged.

    A client that finds PUBSUB_EMULATOR_HOST in its environment connects there. `projects/ANY/topics/clicks` is the
    topic `clicks`, of which `streamflow topic` and pipelines know too. Ctrl-C drains and ends it.
    """
    with told_errors():
        try:
            from streamflow.pubsub.server import serve
        except ImportError as error:
            raise NotFoundError(
                f"Google's clients need more than StreamFlow itself: {error}. pip install 'streamflow[pubsub]'"
            ) from error

        def started(address: str) -> None:
            say(f"serving {shown_data(data)} to Pub/Sub clients; Ctrl-C ends it. Where they run, first:")
            say(f"export PUBSUB_EMULATOR_HOST={address}")

        async def run() -> None:
            stopping = asyncio.Event()
            loop = asyncio.get_running_loop()

            def stop(number: int) -> None:
                stopping.set()
                # A second one does not wait.
                loop.remove_signal_handler(number)

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop, number)
            place = data if "://" in data else Path(data)
            await serve(
                place,
                host=host,
                port=port,
                project=project,
                partitions=partitions,
                stopping=stopping,
                started=started,
            )

        logging.basicConfig(format="%(asctime)s %(message)s")
        asyncio.run(run())
        say("ended")
