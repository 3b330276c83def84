"""`streamflow topic publish`: standard input into a topic, line by line."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import orjson
import typer

from streamflow.base.errors import DataError
from streamflow.cli.folders import create_hint, opened_topics, own_topic
from streamflow.cli.options import Topic, TopicsData
from streamflow.cli.output import errors, say, say_problem, time_of, told_errors
from streamflow.cli.values import pair
from streamflow.runtime.hints import count
from streamflow.topics import Publisher
from streamflow.topics.codec import check_event

EXAMPLES = (
    "Examples:\n\n"
    """`echo '{"user": "ann", "page": "/"}' | streamflow topic publish clicks --data demo-data`\n\n"""
    "`streamflow topic publish clicks -d data --key-field user --time-field at --attribute a=b < clicks.ndjson`\n\n"
    "`streamflow topic publish clicks --data demo-data --watermark 2026-07-04T12:00:00Z < /dev/null` — only a marker"
)
BATCH = 1_000
BAD_SHOWN_MAX = 10
"""Bad lines that are told one by one; the rest is only counted."""
PROGRESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a line becomes an event. `unchecked`: it is published as it is, JSON or not."""

    topic: str
    key_field: str | None
    time_field: str | None
    attributes: dict[str, str]
    unchecked: bool


@dataclass(frozen=True, slots=True)
class Line:
    document: bytes
    time_us: int
    key: str | None


def publish(
    name: Topic,
    data: TopicsData,
    key_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Take the key from this field: equal keys stay in order.")
    ] = None,
    time_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Take the event time from this field: ISO 8601, or µs since 1970."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Give each event this attribute; may be repeated."),
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Publish lines that are no JSON, too: pipelines dead-letter them.")
    ] = False,
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
    """Publish standard input, a JSON document per line (NDJSON), with the present time as event time.

    Bad lines are told with their numbers and left out; the others are published, and the exit code is 1.
    """
    if unchecked and (key_field or time_field):
        raise typer.BadParameter("it can't be used with --key-field or --time-field.", param_hint="'--unchecked'")
    with told_errors(), opened_topics(data, create_hint(name, data)) as log:
        own_topic(log, name)
        marked_us = None if watermark is None else time_of(watermark)
        shape = Shape(name, key_field, time_field, dict(map(pair, attribute or ())), unchecked)
        publisher = Publisher(log, name)
        published, bad = _publish_lines(publisher, shape)
        if marked_us is not None:
            publisher.mark(marked_us)
        if end:
            publisher.end()
        say(f"{count(published, 'event')} published to {name}{', ended' if end else ''}")
        if bad:
            raise DataError(f"{count(bad, 'line')} could not be published. Mend them, and publish them alone.")


def _publish_lines(publisher: Publisher, shape: Shape) -> tuple[int, int]:
    """How many were published, and how many were bad."""
    if sys.stdin.isatty():
        say_problem("type a JSON document per line; Ctrl-D ends")
    numbered = enumerate((line.rstrip(b"\n") for line in sys.stdin.buffer), 1)
    published = bad = 0
    shown_s = time.monotonic()
    while batch := list(islice(numbered, BATCH)):
        good: list[Line] = []
        for number, line in batch:
            if not line.strip():
                continue
            try:
                good.append(_line(line, shape))
            except DataError as error:
                bad += 1
                if bad <= BAD_SHOWN_MAX:
                    say_problem(f"line {number}: {error}")
        published += _send(publisher, good, shape)
        if errors.is_terminal and time.monotonic() - shown_s >= PROGRESS_S:
            shown_s = time.monotonic()
            errors.file.write(f"\r\x1b[2K{published:,} events published")
            errors.file.flush()
    if errors.is_terminal:
        errors.file.write("\r\x1b[2K")
    return published, bad


def _send(publisher: Publisher, lines: Sequence[Line], shape: Shape) -> int:
    if not lines:
        return 0
    return publisher.publish_batch(
        [line.document for line in lines],
        [line.time_us for line in lines],
        None if shape.key_field is None else [line.key for line in lines],
        [shape.attributes] * len(lines) if shape.attributes else None,
    )


def _line(line: bytes, shape: Shape) -> Line:
    now_us = time.time_ns() // 1000
    if shape.unchecked:
        return Line(line, now_us, None)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"no JSON: {error}") from error
    key = None if shape.key_field is None else _key(_field(value, shape.key_field), shape.key_field)
    time_us = now_us if shape.time_field is None else _time(_field(value, shape.time_field), shape.time_field)
    check_event(shape.topic, line, time_us, None if key is None else key.encode(), shape.attributes or None)
    return Line(line, time_us, key)


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or value.get(name) is None:
        raise DataError(f"it has no field '{name}'")
    return value[name]


def _key(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise DataError(f"field '{name}' is no key but {orjson.dumps(value).decode()}: give a text or a whole number")
    return str(value)


def _time(value: Any, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise DataError(f"field '{name}' is no time but {orjson.dumps(value).decode()}")
    return time_of(value)
