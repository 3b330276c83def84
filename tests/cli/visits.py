"""A pipeline file and events for it, some of them bad. Text only: tests write it where they need it."""

BAD = [
    '{"user": "ann", "page": "/", "ms": 1}',
    '{"user": "ann", "page": ',
    '{"user": "ann", "ms": 2}',
    '{"user": "ann", "page": 7, "ms": 3}',
    '{"user": "ann", "page": null, "ms": 3}',
    '{"user": "eve", "page": "/raise", "ms": 4}',
    '{"user": "bob", "page": "/b", "ms": null}',
]

PIPELINE = """
from typing import TypedDict
import streamflow as sf

class Visit(TypedDict):
    user: str
    page: str
    ms: int | None

def checked(visit):
    if visit["page"] == "/raise":
        raise ValueError("no such page [int]")
    return visit

pipeline = sf.Pipeline("visits")
visits = pipeline | sf.ReadFromTopic("visits", schema=Visit)
(
    visits
    | sf.Map(checked)
    | sf.AsColumns(Visit)
    | sf.WindowInto(sf.FixedWindows(86400))
    | sf.Aggregate(by=["page"], visits=sf.Count())
    | sf.WriteToTable("by_page")
)
"""
