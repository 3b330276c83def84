"""Rows: elements with named fields, in functions, groupings and columns."""

import pickle
from typing import Any, NamedTuple

import pytest
from pipelines import collected, ordered

import streamflow as sf


class Sale(NamedTuple):
    fruit: str
    count: int


ROWS = [sf.Row(fruit="fig", count=3), sf.Row(fruit="kiwi", count=1), sf.Row(fruit="fig", count=4)]
SALES = [Sale(row.fruit, row.count) for row in ROWS]
DICTS = [row.as_dict() for row in ROWS]


def test_rows_are_equal_by_fields_in_order_also_to_named_tuples_and_survive_pickling() -> None:
    row = sf.Row(fruit="fig", count=3)
    assert row == Sale("fig", 3)
    assert Sale("fig", 3) == row
    assert hash(row) == hash(Sale("fig", 3))
    assert row not in (sf.Row(count=3, fruit="fig"), sf.Row(fruit="fig"), ("fig", 3), sf.Row(fruit="fig", count=4))
    assert pickle.loads(pickle.dumps(row)) == row
    assert list(row) == ["fig", 3]
    with pytest.raises(AttributeError, match="no field 'price', but fruit, count"):
        _ = row.price


@pytest.mark.parametrize("elements", [ROWS, SALES, DICTS])
def test_group_by_takes_fields_of_rows_named_tuples_and_dicts(elements: list[Any]) -> None:
    grouped = collected(lambda p: p | sf.Create(elements) | sf.GroupBy("fruit"))
    assert {key: len(group) for key, group in grouped} == {"fig": 2, "kiwi": 1}
    totals = collected(lambda p: p | sf.Create(elements) | sf.GroupBy("fruit").aggregate_field("count", sum, "total"))
    assert ordered(totals) == [("fig", 7), ("kiwi", 1)]
    assert totals[0]._fields == ("fruit", "total")


def keys_of(grouping: sf.GroupBy) -> list[Any]:
    return ordered(key for key, _ in collected(lambda p: p | sf.Create(ROWS) | grouping))


@pytest.mark.parametrize(
    ("grouping", "fields", "keys"),
    [
        (sf.GroupBy(lambda row: row.fruit[0]), None, ["f", "k"]),
        (sf.GroupBy("fruit").force_tuple_keys(), ("fruit",), [("fig",), ("kiwi",)]),
        (sf.GroupBy(letter=lambda row: row.fruit[0]), ("letter",), [("f",), ("k",)]),
        (
            sf.GroupBy("fruit", big=lambda row: row.count > 3),
            ("fruit", "big"),
            [("fig", False), ("fig", True), ("kiwi", False)],
        ),
        (sf.GroupBy(lambda row: row.count > 3, lambda row: 0), ("key0", "key1"), [(False, 0), (True, 0)]),
    ],
)
def test_group_by_names_its_keys(grouping: sf.GroupBy, fields: tuple[str, ...] | None, keys: list[Any]) -> None:
    found = keys_of(grouping)
    assert sorted(map(tuple, found)) == keys if fields else found == keys
    assert all(getattr(key, "_fields", None) == fields for key in found)


def test_several_fields_can_be_aggregated_by_combine_fns_and_functions() -> None:
    grouping = (
        sf.GroupBy()
        .aggregate_field("count", max, "most")
        .aggregate_field(lambda row: row.count * 2, sf.combiners.MeanCombineFn(), "double")
    )
    assert collected(lambda p: p | sf.Create(ROWS) | grouping) == [sf.Row(most=4, double=16 / 3)]


@pytest.mark.parametrize(
    ("select", "first"),
    [
        (sf.Select("count"), sf.Row(count=3)),
        (sf.Select(double=sf.col("count") * 2), sf.Row(double=6)),
        (sf.Select("fruit", lambda row: row.count + 1), sf.Row(fruit="fig", arg01=4)),
        (sf.Select(big=lambda row: row.count > 3), sf.Row(big=False)),
    ],
)
@pytest.mark.parametrize("elements", [ROWS, SALES])
def test_select_gives_rows(select: sf.PTransform, first: sf.Row, elements: list[Any]) -> None:
    assert collected(lambda p: p | sf.Create(elements) | select | sf.Filter(lambda row: True))[0] == first


def test_columns_of_rows_stay_rows_for_the_functions_behind() -> None:
    def build(p: sf.Pipeline) -> Any:
        return p | sf.Create(ROWS) | sf.Where(sf.col("count") > 1) | sf.Map(lambda row: (row.fruit, row.count))

    assert ordered(collected(build)) == [("fig", 3), ("fig", 4)]


def test_group_by_refuses_what_names_nothing() -> None:
    with pytest.raises(sf.PipelineError, match="a name or a function"):
        sf.GroupBy(3)  # type: ignore[arg-type]
    with pytest.raises(sf.PipelineError, match="twice"):
        sf.GroupBy("a", a=lambda row: row)
