"""Approximate CombineFns: exact while there is little, within their bounds when there is much, however it is merged."""

import bisect
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.combiner import CombineFn
from streamflow.model.sketches import ApproximateQuantilesCombineFn, ApproximateUniqueCombineFn

create = ApproximateQuantilesCombineFn.create
WEIGHTED = [(value, 1 if value < 10 else 1e-5) for value in range(101)]
TENS = [list(range(begin, min(begin + 10, 101))) for begin in range(0, 101, 10)]


def merged(fn: CombineFn, elements: list[Any], parts: int, chance: random.Random) -> Any:
    accumulators = [fn.compact(fn.add_inputs(fn.create_accumulator(), elements[part::parts])) for part in range(parts)]
    while len(accumulators) > 1:
        chance.shuffle(accumulators)
        some = [accumulators.pop() for _ in range(min(len(accumulators), chance.choice([2, 3])))]
        accumulators.append(fn.merge_accumulators(iter(some)))
    return fn.extract_output(accumulators[0])


@pytest.mark.parametrize(
    ("fn", "elements", "expected"),
    [
        (create(5), list(range(101)), [0, 25, 50, 75, 100]),
        (create(5), list(range(1001)), [0, 250, 500, 750, 1000]),
        (create(2), [3, 1, 2], [1, 3]),
        (create(3), [3, 1, 2], [1, 2, 3]),
        (create(5), ["b", "a", "c"], ["a", "a", "b", "c", "c"]),
        (create(5), [7], [7] * 5),
        (create(5), [], []),
        (create(5, reverse=True), list(range(101)), [100, 75, 50, 25, 0]),
        (create(3, key=len), ["aaa", "b", "cc"], ["b", "cc", "aaa"]),
        (create(5, weighted=True), WEIGHTED, [0, 2, 5, 7, 100]),
        (create(5, input_batched=True), TENS, [0, 25, 50, 75, 100]),
        (
            create(5, input_batched=True, weighted=True),
            [(ten, [1 if value < 10 else 0 for value in ten]) for ten in TENS],
            [0, 2, 5, 7, 100],
        ),
    ],
)
@pytest.mark.parametrize("parts", [1, 4])
def test_few_elements_give_exact_quantiles(fn: CombineFn, elements: list[Any], expected: Any, parts: int) -> None:
    assert merged(fn, elements, parts, random.Random(parts)) == expected


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("parts", [1, 7, 300])
def test_many_elements_give_quantiles_within_epsilon(weighted: bool, order: str, parts: int) -> None:
    fn = ApproximateQuantilesCombineFn(11, 200, weighted=weighted)
    count, chance = 60_000, random.Random(parts)
    numbers = [i**2 for i in range(count)]
    if order == "shuffled":
        chance.shuffle(numbers)
    found = merged(fn, [(n, 2.5) for n in numbers] if weighted else numbers, parts, chance)
    levels = math.ceil(math.log2(count / 200))
    for i, value in enumerate(found):
        place = math.isqrt(value)
        assert abs(place - i * (count - 1) / 10) <= count * levels / (2 * 200)
    assert (found[0], found[-1]) == (0, (count - 1) ** 2)


def test_what_an_accumulator_of_quantiles_holds_is_bounded() -> None:
    fn = ApproximateQuantilesCombineFn(5, 100)
    levels, _ = fn.add_inputs(fn.create_accumulator(), range(1000))
    for _ in range(200):
        levels, _ = fn.merge_accumulators([(levels, [0]), fn.add_inputs(fn.create_accumulator(), range(1000))])
    assert sum(map(len, levels)) <= 200 * (2 + math.ceil(math.log2(200_000 / 100)))


def test_the_size_keeps_epsilon_and_few_are_always_exact() -> None:
    assert create(5).size == ApproximateQuantilesCombineFn.SIZE_MIN
    assert create(5, epsilon=0.001).size == math.ceil(math.log2(1e9) / 0.002)
    assert create(5, epsilon=0.001, max_num_elements=1e6).size < create(5, epsilon=0.001).size


@settings(max_examples=50)
@given(
    elements=st.lists(st.integers(0, 60) | st.text(max_size=1), max_size=80),
    parts=st.integers(1, 5),
    chance=st.randoms(use_true_random=False),
)
def test_distinct_elements_are_counted_alike_however_they_are_merged(
    elements: list[Any], parts: int, chance: random.Random
) -> None:
    fn = ApproximateUniqueCombineFn(16)
    found = merged(fn, elements, parts, chance)
    assert found == fn.apply(elements)
    if len(set(elements)) < 16:
        assert found == len(set(elements))


@pytest.mark.parametrize("size", [64, 1024])
def test_many_distinct_elements_are_estimated_within_four_standard_errors(size: int) -> None:
    found = ApproximateUniqueCombineFn(size).apply(("user", i % 20_000) for i in range(30_000))
    assert abs(found - 20_000) < 4 * 20_000 / math.sqrt(size)


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(PipelineError, match="num_quantiles"):
        create(1)
    with pytest.raises(DataError, match="can't be a key"):
        ApproximateUniqueCombineFn(16).apply([object()])
    with pytest.raises(TypeError):
        create(5).apply([1, "a"])


def test_up_to_twice_the_size_ranks_are_exact() -> None:
    chance = random.Random(3)
    numbers = [chance.random() for _ in range(400)]
    exact = sorted(numbers)
    found = merged(ApproximateQuantilesCombineFn(9, 200), numbers, 5, chance)
    assert [bisect.bisect_left(exact, value) for value in found] == [0, *((i * 400 - 1) // 8 for i in range(1, 8)), 399]
