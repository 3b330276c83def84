"""`streamflow sub pull|tail|ack|nack`: what a subscription delivers, and what becomes of it."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from streamflow.base.errors import ConflictError
from streamflow.cli.events import print_message
from streamflow.cli.folders import create_hint, opened_client
from streamflow.cli.options import FilterOption, Json, Subscription, TopicsData
from streamflow.cli.output import say, told_errors, until_interrupted
from streamflow.cli.tail import matching
from streamflow.cli.values import seconds
from streamflow.runtime.hints import count
from streamflow.runtime.letters import parsed
from streamflow.topics.subscriptions.decisions import AckStatus

if TYPE_CHECKING:
    from streamflow.topics.client.sync import SyncClient

PULL_EXAMPLES = (
    "Examples:\n\n"
    "`streamflow sub pull billing --data data --max 10 --ack`\n\n"
    "`streamflow sub pull billing --data data --wait 5s --json` — with ids for `streamflow sub ack`"
)
TAIL_EXAMPLES = (
    "Examples:\n\n"
    "`streamflow sub tail billing --data data --ack`\n\n"
    "`streamflow sub tail billing --data data --filter 'attributes.type = \"view\"'` — nothing is acked"
)
ACK_EXAMPLES = "Example:\n\n`streamflow sub ack billing 0.1.1.41.42 --data data` — an ack id that `sub pull` has shown"
NACK_EXAMPLES = "Example:\n\n`streamflow sub nack billing 0.1.1.41.42 --data data`"

AckIds = Annotated[list[str], typer.Argument(help="As `streamflow sub pull` has shown them.")]
Ack = Annotated[bool, typer.Option("--ack", help="Ack each message when it is printed.")]


def pull(
    name: Subscription,
    data: TopicsData,
    max_: Annotated[int, typer.Option("--max", min=1, help="At most so many messages.")] = 10,
    ack: Ack = False,
    wait: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="How long to wait if there is none: 5s.")
    ] = None,
    json: Json = False,
) -> None:
    """Lease messages and print them: event time, id, data. Without --ack they come again when the ack deadline has
    passed, unless `streamflow sub ack` is given their ids before. With --json one object per line."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client, until_interrupted():
        found = client.pull(name, max_, wait_s=wait or 0.0)
        for message in found:
            print_message(message, parsed(message.data), as_json=json)
        # What could not be printed must come again.
        sys.stdout.flush()
        if not found and not json:
            say(f"subscription {name} has nothing to deliver now")
        if ack and found:
            _check(client.ack(name, found))


def tail(
    name: Subscription,
    data: TopicsData,
    n: Annotated[int | None, typer.Option("-n", min=1, help="End after so many; else at Ctrl-C.")] = None,
    ack: Ack = False,
    filter_: FilterOption = None,
    json: Json = False,
) -> None:
    """Print messages as they are delivered, until Ctrl-C. Without --ack they are given back then (which counts as an
    attempt), and no more than 1,000 come; what --filter leaves out is never acked. With --json one object per line."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client, until_interrupted():
        _tail(client, name, n, ack=ack, filter_=filter_, json=json)


def _tail(client: "SyncClient", name: str, n: int | None, *, ack: bool, filter_: str | None, json: bool) -> None:
    wanted, shown = matching(filter_), 0
    held = []
    with closing(client.stream(name)) as messages:
        try:
            for message in messages:
                # At once: Ctrl-C may come while it is printed.
                held.append(message)
                if not wanted(message.attributes):
                    continue
                print_message(message, parsed(message.data), as_json=json)
                sys.stdout.flush()
                if ack:
                    client.ack(name, [message])
                    held.pop()
                shown += 1
                if shown == n:
                    return
        finally:
            if held:
                client.nack(name, held)


def ack(name: Subscription, ack_ids: AckIds, data: TopicsData) -> None:
    """Ack deliveries: they are done, and do not come again."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        _check(client.run(client.client.subscriber(name).ack(ack_ids)))
        say(f"{count(len(ack_ids), 'message')} acked")


def nack(name: Subscription, ack_ids: AckIds, data: TopicsData) -> None:
    """Give deliveries back: they come again, by the subscription's retry policy."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        _check(client.run(client.client.subscriber(name).modify(ack_ids, 0)))
        say(f"{count(len(ack_ids), 'message')} given back")


def _check(statuses: list[AckStatus]) -> None:
    failed = [status for status in statuses if status is not AckStatus.HELD]
    if failed:
        why = "earlier messages of the key are not acked yet. Ack these first"
        if AckStatus.STALE in failed:
            why = "the lease has ended. Pull again, and be done sooner"
        raise ConflictError(f"{len(failed)} of {count(len(statuses), 'ack id')} did not hold: {why}")
