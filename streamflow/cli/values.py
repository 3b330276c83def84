"""Values as they are typed: durations, moments, pairs. Text in, value out; a bad one is a usage error (exit code 2)."""

import re
from datetime import datetime

import typer

from streamflow.base.errors import DataError
from streamflow.model.time import MAX_US, MIN_US, timestamp_us
from streamflow.topics.subscriptions.settings import RetryPolicy

NONE = "none"
"""Takes a setting away that has no value of its own for that."""
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "": 1}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|)")


def seconds(text: str) -> float:
    """'30s', '10m', '1.5h', '7d'; without a unit seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"'{text}' is no duration. Write it as 500ms, 30s, 10m, 12h or 7d.")
    return float(match[1]) * _UNITS_S[match[2]]


def seconds_or_never(text: str) -> float:
    """Infinity for 'never'."""
    return float("inf") if text == "never" else seconds(text)


def backoff(text: str) -> RetryPolicy | str:
    """'10s..600s', or NONE: failed messages come again at once."""
    if text == NONE:
        return text
    low, dots, high = text.partition("..")
    if not dots:
        raise typer.BadParameter(f"'{text}' is no range of waits. Write it as 10s..600s, or none.")
    try:
        return RetryPolicy(seconds(low), seconds(high))
    except DataError as error:
        raise typer.BadParameter(str(error)) from error


def moment(text: str, now_us: int) -> int:
    """Microseconds: of ISO 8601 (without zone UTC), of so long ago ('10m'), of 'beginning' or 'end'."""
    if text in ("beginning", "end"):
        return MIN_US if text == "beginning" else MAX_US
    if _DURATION.fullmatch(text.strip()):
        return now_us - round(seconds(text) * 1e6)
    try:
        return timestamp_us(datetime.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no moment. Write it as 2026-07-04T12:00:00Z, or how long ago it was: 10m."
        ) from None


def pair(text: str) -> tuple[str, str]:
    """'name=value'."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"'{text}' is no attribute. Write it as name=value.")
    return name, value


def duration_text(value_s: float | None) -> str:
    """The largest unit that it is a whole number of: '7d', '90s'."""
    if value_s is None:
        return "never"
    for unit in ("d", "h", "m"):
        if value_s and value_s % _UNITS_S[unit] == 0:
            return f"{value_s / _UNITS_S[unit]:g}{unit}"
    return f"{value_s:g}s"
