"""`streamflow topic …`: look at topics and publish to them."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import orjson
import typer

from streamflow.base.errors import ConflictError
from streamflow.cli.folders import known_topic, opened_topics, own_topic, shown_data
from streamflow.cli.options import Json, TopicsData
from streamflow.cli.output import iso_time, print_json, print_table, say, say_problem, time_of, told_errors
from streamflow.engine.plan import DEAD_LETTER
from streamflow.model.time import MAX_US
from streamflow.runtime.events import Event, events_of
from streamflow.runtime.hints import command, count
from streamflow.topics import Publisher
from streamflow.topics.protocol import (
    PARTITIONS_DEFAULT,
    RETENTION_DEFAULT_S,
    TopicConfig,
    TopicInfo,
    TopicLog,
)

app = typer.Typer(help="Topics: list, create, publish to them, end them, and look into them.", no_args_is_help=True)

Topic = Annotated[str, typer.Argument(help="The topic's name.")]
BATCH = 1_000
DAY_S = 86_400


@app.command("list", epilog="Example:\n\n`streamflow topic list --data demo-data`")
def list_(
    data: TopicsData,
    all_: Annotated[bool, typer.Option("--all", help="With the internal ones: the logs between stages.")] = False,
    json: Json = False,
) -> None:
    """All topics with their partitions and events."""
    with told_errors(), opened_topics(data, _create("NAME", data)) as log:
        rows = [_row(log, info) for info in log.topics() if all_ or not info.config.internal]
        if json:
            print_json(rows)
        elif not rows:
            say(f"no topics in '{shown_data(data)}' yet")
        else:
            names = [name for name in rows[0] if all_ or name != "internal"]
            print_table(names, [[row[name] for name in names] for row in rows])


@app.command(epilog="Example:\n\n`streamflow topic create clicks --data demo-data --partitions 16 --retention-days 7`")
def create(
    name: Topic,
    data: TopicsData,
    partitions: Annotated[
        int | None, typer.Option(min=1, help=f"How many readers can share it; default: {PARTITIONS_DEFAULT}.")
    ] = None,
    retention_days: Annotated[float, typer.Option(min=0, help="How long events are kept.")] = RETENTION_DEFAULT_S
    / DAY_S,
) -> None:
    """Create a topic (and the folder, if it is new). One that exists already stays as it is."""
    with told_errors(), opened_topics(data, _create(name, data), new=True) as log:
        known = next((info for info in log.topics() if info.name == name), None)
        if known is None:
            config = TopicConfig(partitions or PARTITIONS_DEFAULT, retention_days * DAY_S)
            say(f"topic {name}: {_partitions(log.create_topic(name, config))}")
        elif partitions in (None, known.config.partitions):
            say(f"topic {name} exists already: {_partitions(known)}")
        else:
            raise ConflictError(
                f"topic '{name}' exists already with {_partitions(known)}, not {partitions}: keys would move. "
                "Use another name."
            )


@app.command(
    epilog="Examples:\n\n"
    """`echo '{"user": "ann", "page": "/"}' | streamflow topic publish clicks --data demo-data`\n\n"""
    "`streamflow topic publish clicks --data demo-data --end < clicks.ndjson`\n\n"
    "`streamflow topic publish clicks --data demo-data --watermark 2026-07-04T12:00:00Z < /dev/null` — only a marker"
)
def publish(
    name: Topic,
    data: TopicsData,
    end: Annotated[bool, typer.Option("--end", help="Say that no more events follow: all windows close.")] = False,
    watermark: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Put a marker behind them in each partition: no event before this time (ISO 8601, UTC) follows. "
            "Readers with `watermark=PublishedMarkers()` go by it.",
        ),
    ] = None,
) -> None:
    """Publish standard input, a JSON document per line, with the present time as event time."""
    with told_errors(), opened_topics(data, _create(name, data)) as log:
        own_topic(log, name)
        marked_us = None if watermark is None else time_of(watermark)
        publisher = Publisher(log, name)
        if sys.stdin.isatty():
            say_problem("type a JSON document per line; Ctrl-D ends")
        lines = (line.rstrip(b"\n") for line in sys.stdin.buffer if line.strip())
        published = 0
        while batch := list(islice(lines, BATCH)):
            published += publisher.publish_batch(batch)
        if marked_us is not None:
            publisher.mark(marked_us)
        if end:
            publisher.end()
        say(f"{count(published, 'event')} published to {name}{', ended' if end else ''}")


@app.command("end", epilog="Example:\n\n`streamflow topic end clicks --data demo-data`")
def end_(name: Topic, data: TopicsData) -> None:
    """Say that no more events follow: all windows of its readers close, and `run --until finished` returns."""
    with told_errors(), opened_topics(data, _create(name, data)) as log:
        ended = own_topic(log, name).watermark_us >= MAX_US
        Publisher(log, name).end()
        say(f"topic {name}: {'was ended already' if ended else 'ended'}")


@app.command(
    epilog="Examples:\n\n"
    "`streamflow topic tail flights --data demo-data -n 3`\n\n"
    "`streamflow topic tail flights.dead-letter --data demo-data` — what failed, and why"
)
def tail(
    name: Topic,
    data: TopicsData,
    n: Annotated[int, typer.Option("-n", min=1, help="How many events.")] = 10,
    partition: Annotated[int | None, typer.Option(min=0, help="Only of this partition.")] = None,
    json: Json = False,
) -> None:
    """Print the newest events of a topic in the order of event time: time, partition/offset, event.

    With --json a JSON document per line. Of a dead-letter topic: where an event failed, why, and what it was.
    """
    with told_errors(), opened_topics(data, _create(name, data)) as log:
        partitions = range(known_topic(log, name).config.partitions) if partition is None else (partition,)
        events = sorted(
            (event for each in partitions for event in _newest(log, name, each, n)),
            key=lambda event: (event.time_us, event.partition, event.offset),
        )[-n:]
        for event in events:
            if json:
                print_json(_document(event, log.offset_span))
            elif name.endswith(f".{DEAD_LETTER}") and isinstance(event.value, dict) and "error" in event.value:
                _say_letter(event)
            else:
                say(f"{iso_time(event.time_us)}  {_place(event, log.offset_span)}  {_text(event.value)}")
        if not events and not json:
            say(f"topic {name} holds no events")


def _newest(log: TopicLog, name: str, partition: int, n: int) -> Iterator[Event]:
    end, back = log.end(name, partition), n
    while True:
        start = max(0, end - back * log.offset_span)
        newest = [event for record in log.read(name, partition, start) for event in events_of(record, start)]
        if len(newest) >= n or not start:
            yield from newest[-n:]
            return
        back *= 2  # Kafka's marks of transactions take offsets too


def _place(event: Event, span: int) -> str:
    """Partition and offset as the log's own tools show them; behind a dot which event of a message it is, if not the
    first."""
    message, nth = divmod(event.offset, span)
    return f"{event.partition}/{message}.{nth}" if nth else f"{event.partition}/{message}"


def _document(event: Event, span: int) -> dict[str, object]:
    return {
        "partition": event.partition,
        "offset": event.offset // span,
        **({"index": event.offset % span} if span > 1 else {}),
        "time": iso_time(event.time_us),
        "event": event.value,
    }


def _say_letter(event: Event) -> None:
    letter = event.value
    place = f"{letter.get('topic')}/{letter.get('partition')} offset {letter.get('offset')}"
    say(f"{iso_time(event.time_us)}  {letter.get('transform')}  {place}")
    say(f"    {letter['error']}")
    say(f"    input: {_text(letter.get('input'))}")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


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


def _partitions(info: TopicInfo) -> str:
    return count(info.config.partitions, "partition")


def _create(name: str, data: str) -> str:
    return f"Create a topic in it: {command(f'topic create {name}', shown_data(data))}."
