"""Beam's CombineFns: the answer is that of plain Python, however elements are split and accumulators are merged."""

import math
import random
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.combine_fns import (
    CountCombineFn,
    LatestCombineFn,
    MeanCombineFn,
    SampleCombineFn,
    SingleInputTupleCombineFn,
    Smallest,
    ToDictCombineFn,
    ToListCombineFn,
    TopCombineFn,
    ToSetCombineFn,
    TupleCombineFn,
)
from streamflow.model.combiner import CombineFn, MergingCombineFn, PartialCombineFn

whole = st.integers(-50, 50)
pairs = st.tuples(whole, whole)


def ranked(n: int, key: Callable[[Any], Any], elements: list[Any]) -> list[Any]:
    return sorted(elements, key=lambda element: (key(element), repr(element)), reverse=True)[:n]


def as_dict(elements: list[Any]) -> dict[Any, Any]:
    return {key: max((v for k, v in elements if k == key), key=repr) for key, _ in elements}


def second(pair: tuple[int, int]) -> int:
    return pair[1]


LAWS: dict[str, tuple[CombineFn, st.SearchStrategy[Any], Callable[[list[Any]], Any]]] = {
    "count": (CountCombineFn(), whole, len),
    "mean": (MeanCombineFn(), whole, fmean),
    "top": (TopCombineFn(3), whole, lambda es: sorted(es, reverse=True)[:3]),
    "smallest": (Smallest(3), whole, lambda es: sorted(es)[:3]),
    "top by key": (TopCombineFn(3, key=second), pairs, lambda es: ranked(3, second, es)),
    "top of nothing": (TopCombineFn(0), whole, lambda es: []),
    "list": (ToListCombineFn(), whole, sorted),
    "set": (ToSetCombineFn(), whole, set),
    "dict": (ToDictCombineFn(), pairs, as_dict),
    "latest": (LatestCombineFn(), pairs, lambda es: ranked(1, second, es)[0][0] if es else None),
    "tuple": (TupleCombineFn(sum, max, CountCombineFn()), st.tuples(whole, whole, whole), None),
    "single": (SingleInputTupleCombineFn(sum, TopCombineFn(2)), whole, None),
}
LAWS["tuple"] = (*LAWS["tuple"][:2], lambda es: (sum(a for a, *_ in es), max(b for _, b, _ in es), len(es)))
LAWS["single"] = (*LAWS["single"][:2], lambda es: (sum(es), sorted(es, reverse=True)[:2]))


def merged(fn: CombineFn, parts: list[list[Any]], chance: random.Random) -> Any:
    """Accumulators made in one go or an element at a time, merged two or three at a time in any order."""
    accumulators = []
    for part in parts:
        accumulator = fn.create_accumulator()
        if chance.random() < 0.5:
            accumulator = fn.add_inputs(accumulator, part)
        else:
            for element in part:
                accumulator = fn.add_input(accumulator, element)
        accumulators.append(fn.compact(accumulator) if chance.random() < 0.5 else accumulator)
    while len(accumulators) > 1:
        chance.shuffle(accumulators)
        some = [accumulators.pop() for _ in range(min(len(accumulators), chance.choice([2, 3])))]
        accumulators.append(fn.merge_accumulators(iter(some)))
    return fn.extract_output(accumulators[0])


@pytest.mark.parametrize("name", LAWS)
@given(data=st.data())
def test_any_split_and_any_merge_tree_give_the_plain_answer(name: str, data: st.DataObject) -> None:
    fn, elements, plain = LAWS[name]
    parts = data.draw(st.lists(st.lists(elements, max_size=40), min_size=1, max_size=5))
    every = [element for part in parts for element in part]
    if not every:
        return
    chance = data.draw(st.randoms(use_true_random=False))
    for way in (fn, MergingCombineFn(fn)):
        of = [[fn.add_input(fn.create_accumulator(), e) for e in part] for part in parts] if way is not fn else parts
        found = merged(way, of, chance)
        assert (sorted(found) if name == "list" else found) == plain(every)


@pytest.mark.parametrize(
    ("fn", "nothing"),
    [
        (CountCombineFn(), 0),
        (TopCombineFn(2), []),
        (SampleCombineFn(2), []),
        (ToListCombineFn(), []),
        (ToSetCombineFn(), set()),
        (ToDictCombineFn(), {}),
        (LatestCombineFn(), None),
    ],
)
def test_nothing_gives_the_empty_answer(fn: CombineFn, nothing: Any) -> None:
    assert fn.apply([]) == fn.extract_output(fn.merge_accumulators([fn.create_accumulator()] * 2)) == nothing
    assert math.isnan(MeanCombineFn().apply([]))


@given(parts=st.lists(st.lists(whole, max_size=20), min_size=1, max_size=5), n=st.integers(0, 8), chance=st.randoms())
def test_a_sample_holds_n_of_the_elements_each_at_most_as_often_as_it_occurs(
    parts: list[list[int]], n: int, chance: random.Random
) -> None:
    sample = merged(SampleCombineFn(n), parts, chance)
    every = [element for part in parts for element in part]
    assert len(sample) == min(n, len(every))
    assert all(sample.count(element) <= every.count(element) for element in sample)


def test_a_seed_settles_the_sample_and_every_element_has_the_same_chance() -> None:
    hits = dict.fromkeys(range(20), 0)
    for seed in range(1000):
        fn = SampleCombineFn(5, seed)
        accumulators = [fn.add_inputs(fn.create_accumulator(), range(begin, begin + 4)) for begin in range(0, 20, 4)]
        sample = fn.extract_output(fn.merge_accumulators(accumulators))
        assert sample == fn.extract_output(fn.merge_accumulators(accumulators[::-1]))
        for element in sample:
            hits[element] += 1
    # 250 each are expected, with a standard deviation of 13.7.
    assert all(190 < count < 310 for count in hits.values())


def test_halves_of_a_combine_fn_make_the_whole() -> None:
    fn = MeanCombineFn()
    accumulators = [PartialCombineFn(fn).apply(part) for part in ([1, 2], [6])]
    assert MergingCombineFn(fn).apply(accumulators) == 3


def test_what_can_not_be_compared_is_an_error_not_an_answer() -> None:
    with pytest.raises(TypeError):
        TopCombineFn(1).apply([1, "a"])


def test_a_combine_fn_gets_the_further_arguments() -> None:
    class Power(CombineFn):
        def create_accumulator(self, exponent: int) -> int:
            return 0

        def add_input(self, accumulator: int, element: int, exponent: int) -> int:
            return accumulator + element**exponent

        def merge_accumulators(self, accumulators: Any, exponent: int) -> int:
            return sum(accumulators)

        def extract_output(self, accumulator: int, exponent: int) -> int:
            return accumulator

    def bounded(values: Any, bound: int) -> int:
        return min(sum(values), bound)

    assert CombineFn.of(Power, 2).apply([1, 2, 3]) == 14
    assert CombineFn.of(Power(), exponent=3).apply([2]) == 8
    assert CombineFn.of(bounded, bound=4).apply([1, 2, 3]) == 4
