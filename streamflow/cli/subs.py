"""`streamflow sub …`: subscriptions themselves, and their snapshots. What they deliver is in `pulling.py`."""

import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from streamflow.base.errors import DataError
from streamflow.cli import pulling, push
from streamflow.cli.folders import create_hint, opened_client, shown_data
from streamflow.cli.options import Json, Subscription, TopicsData, Yes
from streamflow.cli.output import confirm, iso_time, print_json, print_table, say, told_errors
from streamflow.cli.snapshots import app as snapshots
from streamflow.cli.values import NONE, backoff, duration_text, moment, seconds, seconds_or_never
from streamflow.runtime.hints import count
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.push import PushConfig
from streamflow.topics.subscriptions.settings import DeadLetterPolicy, RetryPolicy, SubscriptionSettings
from streamflow.topics.subscriptions.store import SubscriptionInfo

app = typer.Typer(help="Subscriptions: make them, pull from them, seek, look at their backlog.", no_args_is_help=True)
app.command("pull", epilog=pulling.PULL_EXAMPLES)(pulling.pull)
app.command("tail", epilog=pulling.TAIL_EXAMPLES)(pulling.tail)
app.command("ack", epilog=pulling.ACK_EXAMPLES)(pulling.ack)
app.command("nack", epilog=pulling.NACK_EXAMPLES)(pulling.nack)
app.command("push", epilog=push.EXAMPLES)(push.push)
app.add_typer(snapshots, name="snapshot")

AckDeadline = Annotated[
    float | None, typer.Option(parser=seconds, metavar="TIME", help="How long a message is leased: 10s to 10m.")
]
FilterText = Annotated[
    str | None,
    typer.Option("--filter", help='What it gets, by attributes: `attributes.type = "view"`. Can\'t change later.'),
]
Ordered = Annotated[
    bool | None, typer.Option("--ordered/--unordered", help="Messages of one key in order. Can't change later.")
]
ExactlyOnce = Annotated[
    bool | None, typer.Option("--exactly-once/--at-least-once", help="Nothing that was acked comes again.")
]
DeadLetter = Annotated[
    str | None,
    typer.Option(metavar="TOPIC", help="Where messages go that failed --max-attempts times; `none`: nowhere."),
]
MaxAttempts = Annotated[int | None, typer.Option(min=5, max=100, help="Deliveries until then; default: 5.")]
Retry = Annotated[
    Any,
    typer.Option(parser=backoff, metavar="MIN..MAX", help="How failed messages rest: 10s..600s; `none`: at once."),
]
Retention = Annotated[
    float | None, typer.Option(parser=seconds, metavar="TIME", help="How long unacked messages are kept: 10m to 31d.")
]
RetainAcked = Annotated[
    bool | None, typer.Option("--retain-acked/--drop-acked", help="Keep acked messages as long, for seeks.")
]
Expires = Annotated[
    float | None,
    typer.Option(parser=seconds_or_never, metavar="TIME", help="Unused for so long it is deleted: 1d or more, never."),
]

PushTo = Annotated[
    str | None,
    typer.Option("--push", metavar="URL", help="Where `streamflow sub push` delivers to; `none`: it is pulled from."),
]


@app.command(
    epilog="Examples:\n\n"
    "`streamflow sub create billing --topic orders --data data`\n\n"
    "`streamflow sub create views -t clicks -d data --filter 'attributes.type = \"view\"' --ordered --exactly-once "
    "--ack-deadline 30s --dead-letter clicks.failed --max-attempts 5 --retry 10s..600s --retention 7d --expires never`"
)
def create(
    name: Subscription,
    data: TopicsData,
    topic: Annotated[str, typer.Option("--topic", "-t", help="What it gets, from now on.")],
    ack_deadline: AckDeadline = None,
    filter_: FilterText = None,
    ordered: Ordered = None,
    exactly_once: ExactlyOnce = None,
    dead_letter: DeadLetter = None,
    max_attempts: MaxAttempts = None,
    retry: Retry = None,
    retention: Retention = None,
    retain_acked: RetainAcked = None,
    expires: Expires = None,
    push_to: PushTo = None,
    json: Json = False,
) -> None:
    """Create a subscription, which gets what is published to the topic from now on. An equal one stays as it is."""
    with told_errors(), opened_client(data, create_hint(topic, data)) as client:
        given = _given(ack_deadline, filter_, ordered, exactly_once, retry, retention, retain_acked, expires)
        given |= _dead_letter(None, dead_letter, max_attempts) | _push(push_to)
        settings = replace(SubscriptionSettings(), **given)
        _tell(client.create_subscription(name, topic, settings), as_json=json)


@app.command(
    epilog="Examples:\n\n"
    "`streamflow sub alter billing --data data --ack-deadline 60s --retry none`\n\n"
    "`streamflow sub alter billing --data data --dead-letter orders.failed --max-attempts 10 --expires never`"
)
def alter(
    name: Subscription,
    data: TopicsData,
    ack_deadline: AckDeadline = None,
    filter_: FilterText = None,
    ordered: Ordered = None,
    exactly_once: ExactlyOnce = None,
    dead_letter: DeadLetter = None,
    max_attempts: MaxAttempts = None,
    retry: Retry = None,
    retention: Retention = None,
    retain_acked: RetainAcked = None,
    expires: Expires = None,
    push_to: PushTo = None,
    json: Json = False,
) -> None:
    """Change settings of a subscription, from now on; what is not named stays as it is."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        before = client.run(client.client.subscription(name)).settings
        given = _given(ack_deadline, filter_, ordered, exactly_once, retry, retention, retain_acked, expires)
        given |= _dead_letter(before.dead_letter, dead_letter, max_attempts) | _push(push_to)
        if not given:
            raise typer.BadParameter("name a setting that is to change; --help shows them.")
        _tell(client.run(client.client.alter_subscription(name, **given)), as_json=json)


@app.command("list", epilog="Example:\n\n`streamflow sub list --data data --topic orders --backlog`")
def list_(
    data: TopicsData,
    topic: Annotated[str | None, typer.Option("--topic", "-t", help="Only those of this topic.")] = None,
    backlog: Annotated[bool, typer.Option("--backlog", help="With their exact backlogs, which takes longer.")] = False,
    json: Json = False,
) -> None:
    """All subscriptions, or those of a topic. With --json one array."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        rows = []
        for info in client.run(client.client.subscriptions(topic)):
            counted = Backlog(0, 0, 0.0) if info.detached or not backlog else client.backlog(info.name)
            rows.append(_summary(info) | (_backlog(counted) if backlog else {}))
        if json:
            print_json(rows)
        elif not rows:
            say(f"no subscriptions in '{shown_data(data)}' yet")
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])


@app.command(epilog="Example:\n\n`streamflow sub describe billing --data data`")
def describe(name: Subscription, data: TopicsData, json: Json = False) -> None:
    """A subscription's settings, its exact backlog (by partition and in all) and its snapshots. With --json one
    object."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        info = client.run(client.client.subscription(name))
        parts = {} if info.detached else client.run(client.client.backlogs(name))
        of_it = [each for each in client.run(client.client.snapshots()) if each.subscription == name]
        total = sum(parts.values(), start=Backlog(0, 0, 0.0))
        if json:
            print_json(
                _document(info)
                | {"backlog": _backlog(total)}
                | {"by_partition": [{"partition": at, **_backlog(parts[at])} for at in sorted(parts)]}
                | {"snapshots": [each.name for each in of_it]}
            )
            return
        _say(info)
        say(f"snapshots: {', '.join(each.name for each in of_it) or 'none'}")
        names = ["partition", *_backlog(total)]
        rows = [[at, *_backlog(parts[at]).values()] for at in sorted(parts)]
        print_table(names, [*rows, ["in all", *_backlog(total).values()]])


@app.command(epilog="Example:\n\n`streamflow sub delete billing --data data --yes`")
def delete(name: Subscription, data: TopicsData, yes: Yes = False) -> None:
    """Delete a subscription with what it knows of acks. Its topic and snapshots stay."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        _confirm_loss(client, name, f"Delete subscription '{name}'", yes=yes)
        client.run(client.client.delete_subscription(name))
        say(f"subscription {name}: deleted")


@app.command(epilog="Example:\n\n`streamflow sub detach billing --data data --yes`")
def detach(name: Subscription, data: TopicsData, yes: Yes = False) -> None:
    """Let a subscription deliver nothing any more and keep nothing in the log. There is no way back."""
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        _confirm_loss(client, name, f"Detach subscription '{name}' for good", yes=yes)
        client.run(client.client.detach_subscription(name))
        say(f"subscription {name}: detached")


@app.command(
    epilog="Examples:\n\n"
    "`streamflow sub seek billing --data data --to-time 10m` — again what was published in the last 10 minutes\n\n"
    "`streamflow sub seek billing --data data --to-time 2026-01-01T00:00Z`\n\n"
    "`streamflow sub seek billing --data data --to-snapshot before-release`"
)
def seek(
    name: Subscription,
    data: TopicsData,
    to_time: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A time, how long ago (10m), `beginning` or `end`.")
    ] = None,
    to_snapshot: Annotated[str | None, typer.Option(metavar="SNAPSHOT", help="To the acks that it remembers.")] = None,
    yes: Yes = False,
) -> None:
    """Move a subscription: what was published before is acked, the rest is not. Asks if messages would be lost."""
    if (to_time is None) == (to_snapshot is None):
        raise typer.BadParameter("give either --to-time or --to-snapshot.")
    with told_errors(), opened_client(data, create_hint("NAME", data)) as client:
        to = to_snapshot if to_time is None else _datetime(moment(to_time, time.time_ns() // 1000))
        assert to is not None
        lost = client.run(client.client.lost_by_seek(name, to))
        if lost:
            confirm(f"This acks {count(lost, 'message')} that nobody has worked off. Seek '{name}'?", yes=yes)
        client.seek(name, to)
        left = client.backlog(name).events
        say(f"subscription {name}: {count(left, 'message')} to be delivered")


def _given(
    ack_deadline: float | None,
    filter_: str | None,
    ordered: bool | None,
    exactly_once: bool | None,
    retry: Any,
    retention: float | None,
    retain_acked: bool | None,
    expires: float | None,
) -> dict[str, Any]:
    """The settings that were named."""
    named = {
        "ack_deadline_s": ack_deadline,
        "filter": filter_,
        "ordered": ordered,
        "exactly_once": exactly_once,
        "retention_s": retention,
        "retain_acked": retain_acked,
        "expiry_s": expires,
    }
    given: dict[str, Any] = {setting: value for setting, value in named.items() if value is not None}
    if expires == float("inf"):
        given["expiry_s"] = None
    if retry is not None:
        given["retry"] = retry if isinstance(retry, RetryPolicy) else None
    return given


def _dead_letter(before: DeadLetterPolicy | None, topic: str | None, attempts: int | None) -> dict[str, Any]:
    if topic == NONE:
        return {"dead_letter": None}
    if topic is None and attempts is None:
        return {}
    kept = topic or (before.topic if before else None)
    if kept is None:
        raise DataError("--max-attempts counts for --dead-letter alone. Name the topic that gets them")
    return {"dead_letter": DeadLetterPolicy(kept, attempts or (before.attempts_max if before else 5))}


def _push(endpoint: str | None) -> dict[str, Any]:
    return {} if endpoint is None else {"push": None if endpoint == NONE else PushConfig(endpoint)}


def _confirm_loss(client: Any, name: str, what: str, *, yes: bool) -> None:
    info = client.run(client.client.subscription(name))
    left = 0 if info.detached else client.backlog(name).events
    if left:
        confirm(f"{what}, with {count(left, 'message')} that nobody has worked off?", yes=yes)


def _tell(info: SubscriptionInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(info))
    else:
        _say(info)


def _say(info: SubscriptionInfo) -> None:
    settings = info.settings
    said = {
        "ack deadline": duration_text(settings.ack_deadline_s),
        "delivery": f"{'exactly once' if settings.exactly_once else 'at least once'}"
        f"{', in the order of keys' if settings.ordered else ''}",
        "filter": settings.filter or "none",
        "retry": "at once"
        if settings.retry is None
        else f"{duration_text(settings.retry.backoff_min_s)}..{duration_text(settings.retry.backoff_max_s)}",
        "dead letters": "none"
        if settings.dead_letter is None
        else f"to {settings.dead_letter.topic} after {settings.dead_letter.attempts_max} attempts",
        "push": "none" if settings.push is None else f"to {settings.push.endpoint}",
        "retention": f"{duration_text(settings.retention_s)}{', acked ones too' if settings.retain_acked else ''}",
        "expires": "never" if settings.expiry_s is None else f"{duration_text(settings.expiry_s)} after its last use",
    }
    say(f"subscription {info.name} on topic {info.topic}{', detached' if info.detached else ''}")
    for what, value in said.items():
        say(f"  {what}: {value}")


def _document(info: SubscriptionInfo) -> dict[str, Any]:
    return {
        "subscription": info.name,
        "topic": info.topic,
        "detached": info.detached,
        "created": iso_time(info.created_us),
        "active": iso_time(info.active_us),
        "settings": asdict(info.settings),
    }


def _summary(info: SubscriptionInfo) -> dict[str, Any]:
    settings = info.settings
    return {
        "subscription": info.name,
        "topic": info.topic,
        "exactly_once": settings.exactly_once,
        "ordered": settings.ordered,
        "filter": settings.filter,
        "dead_letter": None if settings.dead_letter is None else settings.dead_letter.topic,
        "detached": info.detached,
    }


def _backlog(backlog: Backlog) -> dict[str, float]:
    return {"messages": backlog.events, "bytes": backlog.bytes, "oldest_age_s": backlog.oldest_age_s}


def _datetime(time_us: int) -> datetime:
    """The nearest that can be written as one; nothing was published before or after."""
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    low, high = ((each - epoch) // timedelta(microseconds=1) for each in (earliest, latest))
    return epoch + timedelta(microseconds=min(max(time_us, low), high))
