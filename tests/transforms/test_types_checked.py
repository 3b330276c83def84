"""What is said of types is checked when a pipeline is built, and while it runs if that is asked for."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import pytest

import streamflow as sf
from streamflow.options.pipeline_options import PipelineOptions
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.transforms.userstate import BagStateSpec
from streamflow.typehints import TypeCheckError, with_input_types, with_output_types

T = TypeVar("T")


@with_input_types(int)
class Doubled(sf.PTransform):
    def expand(self, pcoll: Any) -> Any:
        return pcoll | sf.Map(lambda n: n * 2)


class Annotated(sf.PTransform):
    def expand(self, pcoll: sf.PCollection[int]) -> sf.PCollection[str]:
        texts: sf.PCollection[str] = pcoll | sf.Map(str)
        return texts


@with_input_types(T)
@with_output_types(tuple[int, T])
class Numbered(sf.PTransform):
    def expand(self, pcoll: Any) -> Any:
        return pcoll | sf.Map(lambda element: (1, element))


class OfInts(sf.DoFn):
    def process(self, element: int, by: int = 1) -> list[float] | None:
        return [element / by]


class Kept(sf.DoFn):
    def process(self, element: Any, state: Any = sf.DoFn.StateParam(BagStateSpec("kept"))) -> Iterator[Any]:
        yield element


@with_input_types(int)
@with_output_types(float)
class Halves(sf.CombineFn):
    pass


def length(text: str) -> int:
    return len(text)


def words(text: str) -> Iterable[str]:
    return text.split()


def average(values: Iterable[float]) -> float:
    return sum(values) / 2


TEXTS = sf.Create(["a", "b"])
INTS = sf.Create([1, 2])
PAIRS = sf.Create([("a", 1)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TEXTS, sf.Map(len).with_input_types(int)),
        (TEXTS, sf.Map(len).with_input_types(list[int])),
        (TEXTS, Doubled()),
        (TEXTS, Annotated()),
        (TEXTS, sf.ParDo(OfInts())),
        (TEXTS | sf.Filter(bool), Doubled()),
        (TEXTS | sf.Reshuffle() | sf.WindowInto(sf.FixedWindows(9)), Doubled()),
        (TEXTS | sf.Map(length), sf.Map(length)),
        (TEXTS | sf.FlatMap(words), Doubled()),
        (INTS, sf.Map(str.upper)),
        (INTS | sf.Map(str), Doubled()),
        (INTS | Annotated(), Annotated()),
        (INTS | Numbered(), sf.Map(str).with_input_types(tuple[int, str])),
        (INTS | sf.ParDo(OfInts()), Doubled()),
        (INTS, sf.GroupByKey()),
        (INTS, sf.ParDo(Kept())),
        (INTS, sf.CombineGlobally(sf.combiners.LatestCombineFn())),
        (PAIRS | sf.GroupByKey(), sf.Map(str).with_input_types(tuple[str, int])),
        (PAIRS, sf.CombinePerKey(Halves()) | sf.Map(str).with_input_types(tuple[str, int])),
        (sf.Create([("a", "b")]), sf.CombinePerKey(Halves())),
        (sf.Create([("a", "b")]), sf.CombinePerKey(average)),
        (PAIRS | sf.CombinePerKey(sum), sf.Map(str).with_input_types(tuple[str, str])),
        (TEXTS | sf.combiners.Count.Globally(), sf.Map(length)),
        (INTS, sf.Map(lambda n: "").with_output_types(int) | sf.Map(length)),
    ],
)
def test_what_surely_does_not_fit_is_refused_when_it_is_built(first: Any, second: Any) -> None:
    pipeline = sf.Pipeline()
    given = pipeline | first
    with pytest.raises(TypeCheckError, match="requires"):
        given | second


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TEXTS | sf.Map(length), Doubled()),
        (TEXTS | sf.Map(lambda text: text), Doubled()),  # nothing is known of it
        (TEXTS | sf.Map(length), sf.Map(str).with_input_types(float)),
        (INTS | Numbered(), sf.Map(str).with_input_types(tuple[int, int])),
        (sf.Create([1, 2.5]), sf.Map(str).with_input_types(float)),
        (PAIRS, sf.GroupByKey() | sf.Map(str).with_input_types(tuple[str, Iterable[int]])),
        (TEXTS, sf.combiners.Count.PerElement() | sf.Map(str).with_input_types(tuple[str, int])),
    ],
)
def test_what_may_fit_is_built(first: Any, second: Any) -> None:
    sf.Pipeline() | first | second


def test_a_message_names_both_types_and_both_transforms() -> None:
    with pytest.raises(TypeCheckError, match=r"'Map\(length\)' requires str but, applied to .*\[Create\], got int"):
        sf.Pipeline() | INTS | sf.Map(length)
    with pytest.raises(TypeCheckError, match=r"says that it gives str but got int from PCollection\[Inner/Map"):
        sf.Pipeline() | TEXTS | "Inner" >> Lengths().with_output_types(str)


class Lengths(sf.PTransform):
    def expand(self, pcoll: Any) -> Any:
        return pcoll | sf.Map(length)


def test_arguments_are_checked_by_the_parameters_that_they_are_for() -> None:
    pipeline = sf.Pipeline()
    numbers, texts = pipeline | INTS, pipeline | "texts" >> TEXTS
    numbers | "fits" >> sf.ParDo(OfInts(), sf.pvalue.AsSingleton(numbers))
    for arguments in [("b",), (sf.pvalue.AsSingleton(texts),), (1, 2)]:
        with pytest.raises(TypeCheckError):
            numbers | sf.ParDo(OfInts(), *arguments)
    with pytest.raises(TypeCheckError, match="requires str but got int for 'sep'"):
        texts | sf.Map(lambda text, sep: text + sep, sep=1).with_input_types(str, sep=str)


def test_tagged_outputs_have_types_of_their_own() -> None:
    def split(n: int) -> Iterable[int | sf.TaggedOutput[Literal["text"], str]]:
        yield n
        yield sf.TaggedOutput("text", str(n))

    outputs = sf.Pipeline() | INTS | sf.FlatMap(split).with_outputs("text", main="number")
    assert (outputs.number.element_type, outputs.text.element_type) == (int, str)


def test_a_function_that_gives_one_where_many_are_expected_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="int, which is not iterable"):
        sf.Pipeline() | TEXTS | sf.FlatMap(length)


def test_checks_can_be_turned_off_or_demanded_of_all() -> None:
    sf.Pipeline(options=PipelineOptions(pipeline_type_check=False)) | INTS | sf.Map(length)
    strict = sf.Pipeline(options=PipelineOptions(type_check_strictness="ALL_REQUIRED"))
    with pytest.raises(TypeCheckError, match="does not say what it gives"):
        strict | sf.Create([1]).with_output_types(int) | sf.Map(lambda n: n)


@pytest.mark.parametrize(
    "transform",
    [
        sf.Map(lambda n: str(n)).with_output_types(int),
        sf.Map(lambda n: n).with_input_types(T).with_output_types(list[int]),
        sf.Map(lambda n: n) | sf.Map(lambda n: n).with_input_types(str),
        sf.ParDo(OfInts()).with_output_types(int),
    ],
)
def test_each_element_is_looked_at_while_it_runs_if_asked_for(transform: Any) -> None:
    with TestPipeline() as pipeline:
        pipeline | INTS | transform
    with pytest.raises(TypeCheckError, match="should be"), TestPipeline(options=CHECKED) as pipeline:
        pipeline | INTS | transform


CHECKED = PipelineOptions(runtime_type_check=True)


def test_types_that_hold_change_nothing_while_it_runs() -> None:
    with TestPipeline(options=CHECKED) as pipeline:
        results = pipeline | TEXTS | sf.FlatMap(words) | sf.Map(length) | sf.ParDo(OfInts(), by=2)
        assert_that(results, equal_to([0.5, 0.5]))


def test_transforms_have_beams_names_at_beams_places() -> None:
    from streamflow import transforms
    from streamflow.transforms import core

    assert transforms.Map is core.Map is sf.Map
    assert (transforms.GroupByKey, transforms.Keys, core.WindowInto) == (sf.GroupByKey, sf.Keys, sf.WindowInto)
    with pytest.raises(AttributeError):
        _ = transforms.NoSuchThing


def test_a_refused_transform_leaves_its_label_free() -> None:
    pipeline = sf.Pipeline()
    numbers = pipeline | INTS
    with pytest.raises(TypeCheckError):
        numbers | "same" >> sf.ParDo(OfInts(), "b")
    numbers | "same" >> sf.ParDo(OfInts(), 2)


async def fetched(number: int) -> str:
    return str(number)


async def wanted(number: int) -> bool:
    return number > 1


def test_annotations_of_async_functions_and_of_partitions_are_of_what_they_give() -> None:
    def side(number: int, parts: int) -> int:
        return number % parts

    pipeline = sf.Pipeline()
    numbers = pipeline | INTS
    assert (numbers | sf.Map(fetched)).element_type is str
    assert (numbers | sf.Filter(wanted)).element_type is int
    even, _ = numbers | sf.Partition(side, 2)
    even | sf.Map(str).with_input_types(int)
