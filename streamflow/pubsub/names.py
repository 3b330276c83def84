"""`projects/P/topics/T` ↔ our names, which have no project.

A server serves one namespace: it knows `T` under whichever project a client names, and answers with the project it was
asked with. With a project of its own it knows no other.
"""

import re
from dataclasses import dataclass
from typing import Literal

from streamflow.base.errors import DataError, NotFoundError

DELETED_TOPIC = "_deleted-topic_"
"""What Google gives as the topic of a subscription whose topic was deleted."""
_PATH = re.compile(r"projects/([^/]+)/(topics|subscriptions|snapshots)/([^/]+)")
_PROJECT = re.compile(r"projects/([^/]+)")

Collection = Literal["topics", "subscriptions", "snapshots"]


@dataclass(frozen=True, slots=True)
class Name:
    """`id` is our name. Its text is the full one."""

    project: str
    collection: Collection
    id: str

    def __str__(self) -> str:
        return path(self.project, self.collection, self.id)


def path(project: str, collection: Collection, id: str) -> str:
    return DELETED_TOPIC if id == DELETED_TOPIC else f"projects/{project}/{collection}/{id}"


class Names:
    """`project`: the only one that is served; None: any."""

    def __init__(self, project: str | None = None) -> None:
        self._project = project

    def parse(self, text: str, collection: Collection) -> Name:
        """DataError for another form, NotFoundError in a project that is not served."""
        found = _PATH.fullmatch(text)
        if found is None or found[2] != collection:
            raise DataError(f"'{text}' is no name of {collection}. Write it as projects/PROJECT/{collection}/NAME")
        self._check(found[1])
        return Name(found[1], collection, found[3])

    def project(self, text: str) -> str:
        found = _PROJECT.fullmatch(text)
        if found is None:
            raise DataError(f"'{text}' is no name of a project. Write it as projects/PROJECT")
        self._check(found[1])
        return found[1]

    def _check(self, project: str) -> None:
        if self._project not in (None, project):
            raise NotFoundError(f"project '{project}' is not served here, only '{self._project}' is. Name that one")
