"""`streamflow dead-letter …`: what failed, in pipelines and subscriptions, and back with it where it came from."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from streamflow.base.errors import DataError, NotFoundError
from streamflow.cli.events import text
from streamflow.cli.folders import known_topic, opened_topics, own_topic, shown_data, subscriptions_in
from streamflow.cli.options import Json, TopicsData, Yes
from streamflow.cli.output import confirm, iso_time, print_json, print_table, say, told_errors
from streamflow.cli.tail import matching
from streamflow.cli.values import moment
from streamflow.engine.plan import DEAD_LETTER
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.hints import count
from streamflow.runtime.letters import Letter, Original, Originals, letters
from streamflow.runtime.replay import Chosen, Replay, Replayed, replay
from streamflow.topics.protocol import TopicLog

app = typer.Typer(help="Dead letters: what failed and why, and its replay.", no_args_is_help=True)

HINT = "Give the folder, or the address of a Kafka, that holds the topics."
ERROR_CHARS_MAX = 100

Name = Annotated[str, typer.Argument(help="A pipeline, a subscription, or the topic of its dead letters.")]
Transform = Annotated[str | None, typer.Option(help="Only of this transform, or of this subscription.")]
Error = Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose error holds this text.")]
Where = Annotated[
    str | None,
    typer.Option(metavar="FILTER", help='Only events whose attributes match: `attributes.type = "view"`.'),
]
Since = Annotated[str | None, typer.Option(metavar="WHEN", help="Only what failed since: 10m (ago), or a time.")]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Only what failed before.")]


@app.command(
    "list",
    epilog="Examples:\n\n`streamflow dead-letter list --data data` — the topics\n\n"
    "`streamflow dead-letter list flights --data data` — by transform and error",
)
def list_(
    data: TopicsData,
    name: Annotated[str | None, typer.Argument(help="A pipeline, a subscription or a topic.")] = None,
    json: Json = False,
) -> None:
    """How many dead letters there are, and how many are left to be replayed. With --json one array."""
    with told_errors(), opened_topics(data, HINT) as log:
        rows = _topics(log) if name is None else _groups(log, _topic_of(log, name))
        if json:
            print_json(rows)
        elif not rows:
            say(f"no dead letters in '{shown_data(data) if name is None else name}'")
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])


@app.command(
    epilog="Examples:\n\n`streamflow dead-letter show flights --data data --transform 'Map(parse)' -n 3`\n\n"
    "`streamflow dead-letter show flights 0/17 --data data` — one, with its traceback"
)
def show(
    name: Name,
    data: TopicsData,
    place: Annotated[str | None, typer.Argument(help="Of one letter: partition/offset.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many of the newest.")] = 10,
    transform: Transform = None,
    error: Error = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Show dead letters in full: the error, the input, where it came from, the traceback, and whether it was replayed.
    With --json one object per line."""
    with told_errors(), opened_topics(data, HINT) as log:
        topic = _topic_of(log, name)
        chosen = _chosen(transform, error, where, since, until)
        found = [
            (letter, original, replayed)
            for letter, original, replayed in _known(log, topic)
            if chosen(letter, original) and place in (None, _place(letter, log.offset_span))
        ][-n:]
        if place is not None and not found:
            raise NotFoundError(
                f"no dead letter {place} in '{topic}'. `streamflow dead-letter list {name}` shows some."
            )
        for letter, original, replayed in found:
            document = _document(letter, original, log.offset_span, replayed=replayed)
            if json:
                print_json(document)
            else:
                _say(document)
        if not found and not json:
            say(f"no such dead letters in '{topic}'")


@app.command(
    "replay",
    epilog="Examples:\n\n`streamflow dead-letter replay flights --data data --dry-run`\n\n"
    "`streamflow dead-letter replay flights --data data --transform 'Map(parse)' --error KeyError --since 2h`\n\n"
    "`streamflow dead-letter replay orders.failed --data data --where 'attributes.kind = \"paid\"' --yes`",
)
def replay_(
    name: Name,
    data: TopicsData,
    transform: Transform = None,
    error: Error = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="To there instead; also inputs whose event is not kept any more."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Publish the events of dead letters again, as they were, to the topics that they came from.

    Each event once, also if this command is killed and repeated, or run twice at the same time. With --json one object.
    """
    with told_errors(), opened_topics(data, HINT) as log:
        topic = _topic_of(log, name)
        chosen = _chosen(transform, error, where, since, until)
        if to is not None:
            own_topic(log, to)
        if not dry_run and not yes:
            planned = replay(log, topic, chosen, _now_us, to=to, dry=True)
            if planned.events:
                confirm(f"Publish {count(planned.events, 'event')} to {_targets(planned)}?", yes=False)
        done = replay(log, topic, chosen, _now_us, to=to, dry=dry_run)
        if json:
            counts = {"letters": done.letters, "events": done.events, "again": done.again, "gone": done.gone}
            print_json({"topic": topic, "dry_run": dry_run, **counts, "to": done.by_topic})
        else:
            _say_done(done, dry=dry_run)


def _now_us() -> int:
    return time.time_ns() // 1000


def _say_done(done: Replay, *, dry: bool) -> None:
    to = f" to {_targets(done)}" if done.events else ""
    say(f"{count(done.events, 'event')} {'would be ' if dry else ''}published{to}")
    if done.again:
        say(f"{count(done.again, 'letter')} passed over: the event is back there already")
    if done.gone:
        what = "of an event that its topic does not keep, or that no topic of yours held"
        say(f"{count(done.gone, 'letter')} left, {what}: --to TOPIC publishes the input of the transform there")


def _targets(done: Replay) -> str:
    return ", ".join(f"{topic} ({number:,})" for topic, number in sorted(done.by_topic.items()))


def _topic_of(log: TopicLog, name: str) -> str:
    """Of a pipeline, a subscription, or itself."""
    names = {info.name for info in log.topics()}
    if f"{name}.{DEAD_LETTER}" in names:
        return f"{name}.{DEAD_LETTER}"
    store = subscriptions_in(log)
    policies = {} if store is None else {each.name: each.settings.dead_letter for each in store.subscriptions()}
    policy = policies.get(name)
    if policy is not None:
        return policy.topic
    if name in policies and name not in names:
        raise DataError(f"subscription '{name}' has no dead-letter topic. Give it one with `streamflow sub alter`.")
    return known_topic(log, name).name


def _topics(log: TopicLog) -> list[dict[str, Any]]:
    store = subscriptions_in(log)
    names = {info.name for info in log.topics()}
    wanted = {name for name in names if name.endswith(f".{DEAD_LETTER}")}
    for each in () if store is None else store.subscriptions():
        if each.settings.dead_letter is not None:
            wanted.add(each.settings.dead_letter.topic)
    rows = []
    for topic in sorted(wanted & names):
        known = [replayed for _, _, replayed in _known(log, topic)]
        rows.append({"topic": topic, "letters": len(known), "left": len(known) - sum(known)})
    return rows


def _groups(log: TopicLog, topic: str) -> list[dict[str, Any]]:
    """By transform and class of error: how many, and the newest of those that are left, else of all."""
    groups: dict[tuple[str, str], list[tuple[Letter, bool]]] = {}
    for letter, _, replayed in _known(log, topic):
        groups.setdefault((letter.failed_in, letter.error.partition(":")[0]), []).append((letter, replayed))
    rows = []
    for (failed_in, _), members in groups.items():
        left = [letter for letter, replayed in members if not replayed]
        newest = max(left or [letter for letter, _ in members], key=lambda letter: letter.published_us)
        row = {
            "transform": failed_in,
            "letters": len(members),
            "left": len(left),
            "newest": iso_time(newest.published_us),
            "place": _place(newest, log.offset_span),
            "error": newest.error.splitlines()[0][:ERROR_CHARS_MAX],
        }
        rows.append(row)
    return sorted(rows, key=lambda row: -row["letters"])


def _known(log: TopicLog, topic: str) -> Iterator[tuple[Letter, Original | None, bool]]:
    """Each letter, its event, and whether that is back."""
    replayed, originals = Replayed(log, topic), Originals(log)
    for letter in letters(log, topic):
        original = originals.of(letter)
        yield letter, original, replayed.has(letter, original)


def _chosen(
    transform: str | None, error: str | None, where: str | None, since: str | None, until: str | None
) -> Chosen:
    now_us = _now_us()
    low = MIN_US if since is None else moment(since, now_us)
    high = MAX_US if until is None else moment(until, now_us)
    wanted = matching(where)

    def chosen(letter: Letter, original: Original | None) -> bool:
        return (
            transform in (None, letter.failed_in)
            and (error is None or error in letter.error)
            and low <= letter.published_us < high
            and (where is None or wanted({} if original is None else original.attributes))
        )

    return chosen


def _place(letter: Letter, span: int) -> str:
    message, nth = divmod(letter.place.offset, span)
    return f"{letter.place.partition}/{message}{f'.{nth}' if nth else ''}"


def _document(letter: Letter, original: Original | None, span: int, *, replayed: bool) -> dict[str, Any]:
    return {
        "place": _place(letter, span),
        "failed": iso_time(letter.published_us),
        "transform": letter.failed_in,
        "error": letter.error,
        "origin": {
            "topic": letter.origin.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset // span,
        },
        "kept": original is not None,
        "replayed": replayed,
        "attributes": {} if original is None else original.attributes,
        "input": letter.input,
        "traceback": letter.traceback,
    }


def _say(document: dict[str, Any]) -> None:
    origin = document["origin"]
    state = "replayed" if document["replayed"] else "left" if document["kept"] else "left, its event is not kept"
    say(f"{document['place']}  {document['failed']}  {document['transform']}  ({state})")
    say(f"    {document['error']}")
    say(f"    origin: {origin['topic']}/{origin['partition']} offset {origin['offset']}")
    if document["attributes"]:
        say(f"    attributes: {text(document['attributes'])}")
    say(f"    input: {text(document['input'])}")
    lines: Sequence[str] = document["traceback"].rstrip().splitlines()
    for line in lines:
        say(f"    {line}")
