"""`streamflow topic tail`: the events of a topic, newest or from a moment on, and those that come."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated

import typer

from streamflow.cli.events import Wanted, event_document, events_from, newest, say_event, text
from streamflow.cli.folders import create_hint, known_topic, opened_topics
from streamflow.cli.options import FilterOption, Json, Topic, TopicsData
from streamflow.cli.output import iso_time, print_json, say, told_errors, until_interrupted
from streamflow.cli.values import moment
from streamflow.engine.plan import DEAD_LETTER
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.events import Event, offset_published_at
from streamflow.topics.protocol import TopicLog
from streamflow.topics.rules import check_partition
from streamflow.topics.subscriptions.filter import parse

EXAMPLES = (
    "Examples:\n\n"
    "`streamflow topic tail flights --data demo-data -n 3`\n\n"
    "`streamflow topic tail clicks --data data -f --from 10m --filter 'attributes.type = \"view\"'`\n\n"
    "`streamflow topic tail flights.dead-letter --data demo-data` — what failed, and why"
)
NEWEST = 10


def tail(
    name: Topic,
    data: TopicsData,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, help=f"How many of the newest ({NEWEST}); with --from: end after so many."),
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only of this partition.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="WHEN", help="Published since: 10m (ago), a time, `beginning` or `end`."),
    ] = None,
    filter_: FilterOption = None,
    json: Json = False,
) -> None:
    """Print the newest events of a topic in the order of event time: time, partition/offset, event, attributes.

    With --json one object per line. Of a dead-letter topic: where an event failed, why, and what it was.
    """
    with told_errors(), opened_topics(data, create_hint(name, data)) as log, until_interrupted():
        size = known_topic(log, name).config.partitions
        if partition is not None:
            check_partition(name, partition, size)
        partitions = range(size) if partition is None else (partition,)
        wanted = matching(filter_)
        found = False
        for event in _events(log, name, partitions, n, from_, wanted, follow=follow):
            found = True
            _print(event, log.offset_span, name, as_json=json)
        if not found and not json:
            say(f"topic {name} holds no {'such ' if filter_ or from_ else ''}events")


def matching(filter_: str | None) -> Wanted:
    """Everything without a filter. FilterError, with the place, if it is none."""
    return (lambda attributes: True) if filter_ is None else parse(filter_).matches


def _events(
    log: TopicLog,
    name: str,
    partitions: Sequence[int],
    n: int | None,
    from_: str | None,
    wanted: Wanted,
    *,
    follow: bool,
) -> Iterator[Event]:
    if from_ is None:
        ends: Mapping[int, int] = {each: log.end(name, each) for each in partitions}
        found = [event for each in partitions for event in newest(log, name, each, n or NEWEST, wanted)]
        yield from sorted(found, key=lambda event: (event.time_us, event.partition, event.offset))[-(n or NEWEST) :]
        if not follow:
            return
        n = None
    else:
        ends = _since(log, name, partitions, from_)
    chosen = (event for event in events_from(log, name, ends, follow=follow) if wanted(event.attributes))
    yield from islice(chosen, n)


def _since(log: TopicLog, name: str, partitions: Sequence[int], from_: str) -> Mapping[int, int]:
    from_us = moment(from_, time.time_ns() // 1000)
    if from_us <= MIN_US:
        return dict.fromkeys(partitions, 0)
    if from_us >= MAX_US:
        return {each: log.end(name, each) for each in partitions}
    return {each: offset_published_at(log, name, each, from_us) for each in partitions}


def _print(event: Event, span: int, name: str, *, as_json: bool) -> None:
    if as_json:
        print_json(event_document(event, span))
    elif name.endswith(f".{DEAD_LETTER}") and isinstance(event.value, dict) and "error" in event.value:
        _say_letter(event)
    else:
        say_event(event, span)


def _say_letter(event: Event) -> None:
    letter = event.value
    origin = f"{letter.get('topic')}/{letter.get('partition')} offset {letter.get('offset')}"
    say(f"{iso_time(event.time_us)}  {letter.get('transform')}  {origin}")
    say(f"    {letter['error']}")
    say(f"    input: {text(letter.get('input'))}")
