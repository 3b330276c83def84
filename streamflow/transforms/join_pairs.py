"""Pairs as rows, for joins that work on columns: a key, the pickled pair, and whether its value is None."""

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.keys import encode_key
from streamflow.model.schema import Field, Schema
from streamflow.transforms.columns import AsColumns
from streamflow.transforms.core import Map
from streamflow.transforms.join import check_two

ROW, DELETED = "row", "deleted"
_PAIR = Schema(
    (
        Field("key", pl.Binary(), bytes, required=True, nullable=False),
        Field(ROW, pl.Binary(), bytes, required=True, nullable=False),
        Field(DELETED, pl.Boolean(), bool, required=True, nullable=False),
    )
)
"""Pairs as columns."""


def on_pairs(name: str, pcolls: Any, join: Callable[[PCollection], PTransform]) -> Any:
    """Two collections of pairs, joined as rows: pairs of a key and both values. `join`: with the right."""
    check_two(name, pcolls)
    left, right = (
        pcoll | f"Pair-{place}" >> Map(_as_row) | f"Columns-{place}" >> _PairColumns()
        for place, pcoll in enumerate(pcolls)
    )
    return left | "Join" >> join(right) | "Pair" >> Map(_as_pair)


class _PairColumns(AsColumns):
    """Of dicts with bytes, which schemas of events can't have."""

    def __init__(self) -> None:
        self.schema = _PAIR


def _as_row(element: Any) -> dict[str, Any]:
    if not isinstance(element, (tuple, list)) or len(element) != 2:
        raise DataError(f"joining by key needs (key, value) pairs, got {element!r}. Make them with Map.")
    key, value = element
    return {"key": encode_key(key), ROW: pickle.dumps((key, value), protocol=5), DELETED: value is None}


def _as_pair(row: Mapping[str, Any]) -> Any:
    sides = [row[name] and pickle.loads(row[name]) for name in (ROW, f"{ROW}_right")]
    key = next(pair[0] for pair in sides if pair is not None)
    return key, tuple(None if pair is None else pair[1] for pair in sides)
