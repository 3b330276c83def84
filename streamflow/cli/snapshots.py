"""`streamflow sub snapshot …`: what was acked at a moment, kept to seek to."""

from typing import Annotated

import typer

from streamflow.cli.folders import create_hint, opened_client, shown_data
from streamflow.cli.options import Json, TopicsData
from streamflow.cli.output import iso_time, print_json, print_table, say, told_errors
from streamflow.topics.subscriptions.store import SnapshotInfo

app = typer.Typer(help="Snapshots: what was acked at a moment, to seek to.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The snapshot's name.")]


@app.command(epilog="Example:\n\n`streamflow sub snapshot create before-release --subscription billing --data data`")
def create(
    name: Name,
    subscription: Annotated[str, typer.Option("--subscription", "-s", help="Whose acks.")],
    data: TopicsData,
    json: Json = False,
) -> None:
    """Remember what a subscription has acked. It lives until its oldest unacked message is 7 days old."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        info = client.run(client.client.create_snapshot(name, subscription))
        if json:
            print_json(_row(info))
        else:
            say(f"snapshot {name} of {subscription}: until {iso_time(info.expires_us)}")


@app.command("list", epilog="Example:\n\n`streamflow sub snapshot list --data data`")
def list_(
    data: TopicsData,
    subscription: Annotated[str | None, typer.Option("--subscription", "-s", help="Only those of it.")] = None,
    json: Json = False,
) -> None:
    """All snapshots that have not expired. With --json one array."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        infos = client.run(client.client.snapshots())
        rows = [_row(info) for info in infos if subscription in (None, info.subscription)]
        if json:
            print_json(rows)
        elif not rows:
            say(f"no snapshots in '{shown_data(data)}'")
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])


@app.command(epilog="Example:\n\n`streamflow sub snapshot delete before-release --data data`")
def delete(name: Name, data: TopicsData) -> None:
    """Delete a snapshot, with what the log keeps for it alone."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        client.run(client.client.delete_snapshot(name))
        say(f"snapshot {name}: deleted")


def _row(info: SnapshotInfo) -> dict[str, str]:
    return {
        "snapshot": info.name,
        "subscription": info.subscription,
        "topic": info.topic,
        "created": iso_time(info.created_us),
        "expires": iso_time(info.expires_us),
    }
