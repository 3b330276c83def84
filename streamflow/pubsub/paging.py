"""Lists in pages. A token is the last name of the page before, so that what comes and goes between two calls neither
repeats nor hides the rest."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from streamflow.base.errors import DataError

PAGE_MAX = 1_000
"""Of one answer; also if the client does not say how many it wants."""

T = TypeVar("T")


def page_of(items: Sequence[T], request: Any, name_of: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """(what to answer, the token of the next page or ""). `items` are sorted by name. DataError for a size below 0 and
    for a token of somebody else's."""
    if request.page_size < 0:
        raise DataError(f"page_size is {request.page_size}. Give 0 for the default, or 1 to {PAGE_MAX:,}")
    size = min(request.page_size or PAGE_MAX, PAGE_MAX)
    after = _decoded(request.page_token)
    left = [item for item in items if name_of(item) > after]
    more = len(left) > size
    return left[:size], urlsafe_b64encode(name_of(left[size - 1]).encode()).decode() if more else ""


def _decoded(token: str) -> str:
    try:
        return b64decode(token, b"-_", validate=True).decode()
    except ValueError:
        raise DataError(f"'{token}' is no page token. Give the one of the answer before") from None
