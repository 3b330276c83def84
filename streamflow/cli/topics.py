"""`streamflow topic …`: look at topics and publish to them."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import orjson
import typer

from streamflow.base.errors import NotFoundError
from streamflow.cli.output import console, print_json, print_table, told_errors
from streamflow.model.time import MAX_US
from streamflow.topics import Publisher, codec, connect
from streamflow.topics.protocol import PARTITIONS_DEFAULT, RETENTION_DEFAULT_S, Kind, Log, TopicConfig, TopicInfo

app = typer.Typer(help="Topics: list, create, publish to them, and look into them.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", "-d", help="The folder that holds the topics.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Topic = Annotated[str, typer.Argument(help="The topic's name.")]
BATCH = 1_000


@app.command("list", epilog="Example:\n\n`streamflow topic list --data demo-data`")
def list_(data: Data, json: Json = False) -> None:
    """All topics with their partitions and events; internal ones are the logs between stages."""
    with told_errors():
        log = _open(data)
        rows = [_row(log, info) for info in log.topics()]
        log.close()
        if json:
            print_json(rows)
        else:
            print_table(["topic", "partitions", "events", "internal", "ended"], [list(row.values()) for row in rows])


@app.command(epilog="Example:\n\n`streamflow topic create clicks --data demo-data --partitions 16 --retention-days 7`")
def create(
    name: Topic,
    data: Data,
    partitions: Annotated[int, typer.Option(min=1)] = PARTITIONS_DEFAULT,
    retention_days: Annotated[float, typer.Option(min=0)] = RETENTION_DEFAULT_S / 86400,
) -> None:
    """Create a topic (and the folder, if it is new)."""
    with told_errors():
        log = connect(data)
        info = log.create_topic(name, TopicConfig(partitions, retention_days * 86400))
        log.close()
        console.print(f"topic {info.name}: {info.config.partitions} partitions")


@app.command(
    epilog="Examples:\n\n"
    """`echo '{"user": "ann", "page": "/"}' | streamflow topic publish clicks --data demo-data`\n\n"""
    "`streamflow topic publish clicks --data demo-data --end < clicks.ndjson`"
)
def publish(
    name: Topic,
    data: Data,
    end: Annotated[bool, typer.Option("--end", help="Say that no more events follow: all windows close.")] = False,
) -> None:
    """Publish standard input, a JSON document per line, with the present time as event time."""
    with told_errors():
        log = _open(data)
        publisher = Publisher(log, name)
        lines = (line.rstrip(b"\n") for line in sys.stdin.buffer if line.strip())
        count = 0
        while batch := list(islice(lines, BATCH)):
            count += publisher.publish_batch(batch)
        if end:
            publisher.end()
        log.close()
        console.print(f"{count:,} events published to {name}{', ended' if end else ''}")


@app.command(
    epilog="Examples:\n\n"
    "`streamflow topic tail flights --data demo-data -n 3`\n\n"
    "`streamflow topic tail flights.dead-letter --data demo-data` — what failed, and why"
)
def tail(
    name: Topic,
    data: Data,
    n: Annotated[int, typer.Option("-n", min=1, help="How many of the newest events of each partition.")] = 10,
) -> None:
    """Print the newest events of a topic as JSON lines, with partition and offset."""
    with told_errors():
        log = _open(data)
        for partition in range(log.topic(name).config.partitions):
            start = max(0, log.end(name, partition) - n)
            for record in log.read(name, partition, start):
                frame = codec.decode(record)
                is_json = record.kind is Kind.JSON
                values = frame[codec.JSON].to_list() if is_json else frame.drop(codec.TIME).to_dicts()
                for offset, value in enumerate(values, record.offset):
                    if offset >= start:
                        print_json({"partition": partition, "offset": offset, "event": _event(value)})
        log.close()


def _event(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        parsed: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode("utf-8", errors="backslashreplace")
    return parsed


def _row(log: Log, info: TopicInfo) -> dict[str, object]:
    partitions = info.config.partitions
    return {
        "topic": info.name,
        "partitions": partitions,
        "events": sum(log.end(info.name, partition) for partition in range(partitions)),
        "internal": info.config.internal,
        "ended": info.watermark_us >= MAX_US,
    }


def _open(data: Path) -> Log:
    if not (data / "streamflow.db").is_file():
        raise NotFoundError(f"'{data}' holds no StreamFlow data. Create a topic in it: `streamflow topic create …`.")
    return connect(data)
