"""`streamflow topic …`: topics themselves. What is written to them is in `publish.py`, what is read in `tail.py`."""

import time
from typing import Annotated, Any

import orjson
import typer

from streamflow.base.errors import ConflictError
from streamflow.cli import publish, tail
from streamflow.cli.folders import create_hint, known_topic, opened_topics, own_topic, shown_data, subscriptions_in
from streamflow.cli.options import Json, Topic, TopicsData, Yes
from streamflow.cli.output import confirm, iso_time, print_json, print_table, say, time_text, told_errors
from streamflow.cli.values import duration_text, seconds
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.events import offset_published_at
from streamflow.runtime.hints import count
from streamflow.topics import Publisher
from streamflow.topics.protocol import PARTITIONS_DEFAULT, RETENTION_DEFAULT_S, TopicConfig, TopicInfo, TopicLog

app = typer.Typer(help="Topics: make them, publish to them, look into them.", no_args_is_help=True)
app.command("publish", epilog=publish.EXAMPLES)(publish.publish)
app.command("tail", epilog=tail.EXAMPLES)(tail.tail)

RATE_S = 60
"""Of the rates that `describe` shows: what was published in the last so many seconds."""

Retention = Annotated[
    float | None,
    typer.Option(parser=seconds, metavar="TIME", help="How long events are kept: 12h, 30d; default: 7d."),
]


@app.command("list", epilog="Example:\n\n`streamflow topic list --data demo-data`")
def list_(
    data: TopicsData,
    all_: Annotated[bool, typer.Option("--all", help="With the internal ones: the logs between stages.")] = False,
    json: Json = False,
) -> None:
    """All topics with their partitions and events. With --json one array."""
    with told_errors(), opened_topics(data, create_hint("NAME", data)) as log:
        rows = [_row(log, info) for info in log.topics() if all_ or not info.config.internal]
        if json:
            print_json(rows)
        elif not rows:
            say(f"no topics in '{shown_data(data)}' yet")
        else:
            names = [name for name in rows[0] if all_ or name != "internal"]
            print_table(names, [[row[name] for name in names] for row in rows])


@app.command(epilog="Example:\n\n`streamflow topic create clicks --data demo-data --partitions 16 --retention 7d`")
def create(
    name: Topic,
    data: TopicsData,
    partitions: Annotated[
        int | None, typer.Option(min=1, help=f"How many readers can share it; default: {PARTITIONS_DEFAULT}.")
    ] = None,
    retention: Retention = None,
) -> None:
    """Create a topic (and the folder, if it is new). One that exists already stays as it is."""
    with told_errors(), opened_topics(data, create_hint(name, data), new=True) as log:
        known = next((info for info in log.topics() if info.name == name), None)
        if known is None:
            config = TopicConfig(
                partitions or PARTITIONS_DEFAULT, RETENTION_DEFAULT_S if retention is None else retention
            )
            say(f"topic {name}: {_partitions(log.create_topic(name, config))}")
        elif partitions in (None, known.config.partitions):
            say(f"topic {name} exists already: {_partitions(known)}")
        else:
            raise ConflictError(
                f"topic '{name}' exists already with {_partitions(known)}, not {partitions}: keys would move. "
                "Use another name."
            )


@app.command(epilog="Example:\n\n`streamflow topic describe clicks --data demo-data`")
def describe(name: Topic, data: TopicsData, json: Json = False) -> None:
    """A topic's settings, schema and subscriptions, and of each partition its end, size and rate of the last minute.
    With --json one object."""
    with told_errors(), opened_topics(data, create_hint(name, data)) as log:
        info = known_topic(log, name)
        document = _described(log, info)
        if json:
            print_json(document)
            return
        say(f"topic {name}: {_partitions(info)}, kept for {duration_text(info.config.retention_s)}")
        say(f"watermark promised by publishers: {time_text(info.watermark_us)}")
        if document["schema"] is not None:
            say(f"schema: {orjson.dumps(document['schema']).decode()}")
        say(f"subscriptions: {', '.join(document['subscriptions']) or 'none'}")
        parts = document["by_partition"]
        names = list(parts[0])
        print_table(names, [[part[name] for name in names] for part in parts])
        rate, size = document["events_per_s"], document["bytes"]
        say(f"in all: {rate:,.2f} events/s{'' if size is None else f', {size:,} bytes'}")


@app.command(
    epilog="Examples:\n\n`streamflow topic alter clicks --data demo-data --retention 30d`\n\n"
    "`streamflow topic alter clicks --data demo-data --partitions 32`"
)
def alter(
    name: Topic,
    data: TopicsData,
    retention: Retention = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="How many there are to be in all; keys may go to others from then on.")
    ] = None,
) -> None:
    """Change how long a topic keeps its events, or give it more partitions."""
    with told_errors(), opened_topics(data, create_hint(name, data)) as log:
        own_topic(log, name)
        if retention is None and partitions is None:
            raise typer.BadParameter("name what is to change: --retention or --partitions.")
        if partitions is not None:
            log.add_partitions(name, partitions)
        if retention is not None:
            log.alter_topic(name, retention)
        config = log.topic(name).config
        say(f"topic {name}: {count(config.partitions, 'partition')}, kept for {duration_text(config.retention_s)}")


@app.command(epilog="Example:\n\n`streamflow topic delete clicks --data demo-data --yes`")
def delete(name: Topic, data: TopicsData, yes: Yes = False) -> None:
    """Delete a topic with its events. Its subscriptions are detached; one that a pipeline reads stays."""
    with told_errors(), opened_topics(data, create_hint(name, data)) as log:
        own_topic(log, name)
        confirm(f"Delete topic '{name}' with all its events?", yes=yes)
        log.delete_topic(name)
        say(f"topic {name}: deleted")


@app.command("end", epilog="Example:\n\n`streamflow topic end clicks --data demo-data`")
def end_(name: Topic, data: TopicsData) -> None:
    """Say that no more events follow: all windows of its readers close, and `run --until finished` returns."""
    with told_errors(), opened_topics(data, create_hint(name, data)) as log:
        ended = own_topic(log, name).watermark_us >= MAX_US
        Publisher(log, name).end()
        say(f"topic {name}: {'was ended already' if ended else 'ended'}")


def _row(log: TopicLog, info: TopicInfo) -> dict[str, object]:
    partitions = info.config.partitions
    return {
        "topic": info.name,
        "partitions": partitions,
        # What Kafka's offsets count are messages and marks of transactions.
        "events" if log.offset_span == 1 else "offsets": sum(
            log.end(info.name, partition) // log.offset_span for partition in range(partitions)
        ),
        "internal": info.config.internal,
        "ended": info.watermark_us >= MAX_US,
    }


def _described(log: TopicLog, info: TopicInfo) -> dict[str, Any]:
    store = subscriptions_in(log)
    schema = None if store is None else store.topic_schema(info.name)
    since_us = time.time_ns() // 1000 - RATE_S * 1_000_000
    parts = [_part(log, info.name, partition, since_us) for partition in range(info.config.partitions)]
    sizes = [part["bytes"] for part in parts]
    return {
        "topic": info.name,
        "partitions": info.config.partitions,
        "retention_s": info.config.retention_s,
        "internal": info.config.internal,
        "ended": info.watermark_us >= MAX_US,
        "watermark": iso_time(info.watermark_us) if MIN_US < info.watermark_us < MAX_US else None,
        "schema": None if schema is None else orjson.loads(schema),
        "subscriptions": [] if store is None else [each.name for each in store.subscriptions(info.name)],
        "events_per_s": sum(part["events_per_s"] for part in parts),
        "bytes": None if None in sizes else sum(sizes),
        "by_partition": parts,
    }


def _part(log: TopicLog, name: str, partition: int, since_us: int) -> dict[str, Any]:
    end, span = log.end(name, partition), log.offset_span
    recent = end - offset_published_at(log, name, partition, since_us)
    # On Kafka it would have to be read to be counted.
    kept = log.backlog(name, partition, 0) if span == 1 else None
    return {
        "partition": partition,
        "end": end // span,
        "events": None if kept is None else kept.events,
        "bytes": None if kept is None else kept.bytes,
        "events_per_s": recent / span / RATE_S,
    }


def _partitions(info: TopicInfo) -> str:
    return count(info.config.partitions, "partition")
