"""Several outputs of one transform: tags, partitions, exceptions, and what `finish_bundle` gives."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pipelines import ordered

import streamflow as sf
from streamflow.engine.outputs import finished
from streamflow.utils.windowed_value import WindowedValue

Collected = dict[str, list[Any]]


def run(build: Any, settings: sf.Settings | None = None) -> tuple[Collected, sf.PipelineResult]:
    """What is in each of the PCollections that `build` returns by name."""
    found: Collected = {}
    p = sf.Pipeline(settings=settings)
    for name, pcoll in build(p).items():
        found[name] = []
        pcoll | f"Collect {name}" >> sf.Map(found[name].append)
    result = p.run()
    return {name: ordered(values) for name, values in found.items()}, result


class Words(sf.DoFn):
    """Words up to a length, the lengths of longer ones, and marked ones."""

    def process(self, element: str, cutoff: int, marker: str) -> Iterator[Any]:
        if len(element) <= cutoff:
            yield element
        else:
            yield sf.pvalue.TaggedOutput("lengths", len(element))
        if element.startswith(marker):
            yield sf.TaggedOutput("marked", element)


WORDS = ["x", "xyz", "ab", "long one"]
ANSWER = {"main": ["ab", "x"], "lengths": [3, 8], "marked": ["x", "xyz"]}


@pytest.mark.parametrize("how", ["attributes", "tags", "unpacked", "main is None", "undeclared"])
def test_tagged_outputs_are_had_by_attribute_by_tag_and_by_unpacking(how: str) -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        words, transform = p | sf.Create(WORDS), sf.ParDo(Words(), 2, marker="x")
        if how in ("main is None", "undeclared"):
            tags = ("lengths", "marked") if how == "main is None" else ()
            results = words | transform.with_outputs(*tags)
            return {"main": results[None], "lengths": results.lengths, "marked": results["marked"]}
        results = words | "Split" >> transform.with_outputs("lengths", "marked", main="short")
        if how == "unpacked":
            main, lengths, marked = results
            return {"main": main, "lengths": lengths, "marked": marked}
        if how == "tags":
            return {"main": results["short"], "lengths": results["lengths"], "marked": results["marked"]}
        return {"main": results.short, "lengths": results.lengths, "marked": results.marked}

    assert run(build)[0] == ANSWER


def test_tagged_outputs_keep_time_and_windows_and_can_be_grouped() -> None:
    def split(n: int) -> Iterable[Any]:
        yield sf.TaggedOutput("even" if n % 2 == 0 else "odd", sf.TimestampedValue(("k", n), n))

    def build(p: sf.Pipeline) -> dict[str, Any]:
        results = p | sf.Create(range(8)) | sf.FlatMap(split).with_outputs("even", "odd")
        return {
            tag: results[tag] | f"W{tag}" >> sf.WindowInto(sf.FixedWindows(4)) | f"S{tag}" >> sf.CombinePerKey(sum)
            for tag in ("even", "odd")
        }

    assert run(build)[0] == {"even": [("k", 10), ("k", 2)], "odd": [("k", 12), ("k", 4)]}


def test_tags_that_nobody_asked_for_go_nowhere_and_are_counted_without_with_outputs() -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        words = p | sf.Create(WORDS)
        alone = words | "Alone" >> sf.ParDo(Words(), 2, "x")
        some = words | "Some" >> sf.ParDo(Words(), 2, "x").with_outputs("marked")
        return {"alone": alone, "some": some.marked}

    found, result = run(build)
    assert found == {"alone": ["ab", "x"], "some": ["x", "xyz"]}
    assert result.total("outputs_unread") == 4


def test_outputs_flatten_into_one() -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        results = p | sf.Create(WORDS) | sf.ParDo(Words(), 2, "x").with_outputs("lengths", "marked", main="short")
        return {"all": results | sf.Flatten()}

    assert run(build)[0]["all"] == ordered([value for values in ANSWER.values() for value in values])


def test_tag_that_is_no_text_is_a_bad_element() -> None:
    _, result = run(lambda p: {"x": (p | sf.Create([1]) | sf.Map(lambda n: sf.TaggedOutput(n, n)).with_outputs("t")).t})
    assert "the tag of an output must be a text, got 1" in result.dead_letters[0]["error"]


class Tenths(sf.PartitionFn):
    def partition_for(self, element: int, num_partitions: int, *args: Any, **kwargs: Any) -> int:
        return element * num_partitions // 100


@pytest.mark.parametrize("fn", [Tenths(), lambda n, of: n * of // 100], ids=["object", "function"])
def test_partition_splits_and_a_number_that_is_none_is_bad(fn: Any) -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        parts = p | sf.Create([*range(0, 100, 9), 500, "x"]) | sf.Partition(fn, 3)
        assert len(parts) == 3
        return {str(i): part for i, part in enumerate(parts)} | {"again": parts[1]}

    found, result = run(build)
    assert found == {"0": [0, 18, 27, 9], "1": (of1 := [36, 45, 54, 63]), "2": [72, 81, 90, 99], "again": of1}
    assert [letter["input"] for letter in result.dead_letters] == [500, "x"]


def invert(n: float) -> float:
    return 1 / n


def tenfold(n: float) -> Iterator[float]:
    yield n * 10
    yield 1 / n


@pytest.mark.parametrize(
    ("transform", "good"),
    [
        (sf.Map(invert).with_exception_handling(), [0.5, 1.0]),
        (sf.Map(invert).with_exception_handling(exc_class=ZeroDivisionError), [0.5, 1.0]),
        (sf.Map(invert).with_exception_handling(exc_class=(KeyError, ArithmeticError)), [0.5, 1.0]),
        (sf.Filter(lambda n: 1 / n > 0.5).with_exception_handling(), [1]),  # type: ignore[attr-defined]
        (sf.FlatMap(tenfold).with_exception_handling(), [0.5, 1.0, 10, 20]),
        (sf.FlatMap(tenfold).with_exception_handling(partial=True), [0, 0.5, 1.0, 10, 20]),
    ],
    ids=["Map", "Map of a class", "Map of classes", "Filter", "FlatMap", "FlatMap partial"],
)
def test_elements_that_raise_are_an_output(transform: Any, good: list[Any]) -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        good, bad = p | sf.Create([0, 1, 2]) | transform
        return {"good": good, "bad": bad}

    found, result = run(build)
    assert found["good"] == ordered(good)
    [(element, (kind, text, lines))] = found["bad"]
    assert (element, kind, text) == (0, ZeroDivisionError, "ZeroDivisionError('division by zero')")
    assert lines[0].startswith("Traceback")
    assert not result.dead_letters


def test_other_exceptions_than_asked_for_are_dead_letters_and_tags_go_with_handling() -> None:
    def halved(n: Any) -> Any:
        return sf.TaggedOutput("half", n / 2) if n > 1 else 1 / n

    def build(p: sf.Pipeline) -> dict[str, Any]:
        handled = sf.Map(halved).with_outputs("half", main="m").with_exception_handling("m", "b", exc_class=TypeError)
        main, bad, half = p | sf.Create([4, 1, "x", 0]) | handled
        return {"main": main, "half": half, "bad": bad | sf.Map(lambda letter: letter[0])}

    found, result = run(build)
    assert found == {"main": [1.0], "half": [2.0], "bad": ["x"]}
    assert [letter["input"] for letter in result.dead_letters] == [0]


def test_exception_handling_keeps_the_tags_that_with_outputs_gave() -> None:
    handled = sf.Map(lambda n: 1 / n).with_outputs("half", main="m").with_exception_handling(dead_letter_tag="b")
    found, _ = run(lambda p: {"m": (p | sf.Create([1, 0]) | handled).m})
    assert found == {"m": [1.0]}
    with pytest.raises(sf.PipelineError, match="no output 'good', but \\['b', 'half', 'm'\\]"):
        _ = (sf.Pipeline() | sf.Create([1]) | handled).good


class Ending(sf.DoFn):
    """Gives at the end of each bundle how many there were, into the window of the last."""

    def start_bundle(self) -> None:
        self.count = 0

    def process(self, element: Any, window: Any = sf.DoFn.WindowParam) -> None:
        self.count += 1
        self.window = window

    def finish_bundle(self) -> Iterator[Any]:
        yield WindowedValue(("n", self.count), self.window.max_timestamp(), [self.window])


def test_finish_bundle_gives_windowed_values() -> None:
    def build(p: sf.Pipeline) -> dict[str, Any]:
        events = p | sf.Create([sf.TimestampedValue(n, n) for n in range(10)]) | sf.WindowInto(sf.FixedWindows(10))
        counts = events | sf.ParDo(Ending())
        return {
            "n": counts | sf.CombinePerKey(sum),
            "at": counts | sf.Map(lambda _, t=sf.DoFn.TimestampParam: float(t)),
        }

    for step_events_max in (3, 100):
        found, _ = run(build, sf.Settings(step_events_max=step_events_max))
        assert found["n"] == [("n", 10)]
        assert set(found["at"]) == {9.999999}


class EndingBadly(sf.DoFn):
    def process(self, element: Any) -> list[Any]:
        return [element]

    def finish_bundle(self) -> list[Any]:
        return ["nowhere"]


def test_finish_bundle_that_gives_a_plain_value_fails() -> None:
    with pytest.raises(sf.PipelineError, match=r"EndingBadly.finish_bundle gave 'nowhere'.*Give WindowedValue"):
        list(finished(EndingBadly(), windowed=False))


def test_key_is_given_to_who_asks_for_it() -> None:
    def keyed(element: Any, key: Any = sf.DoFn.KeyParam) -> Any:
        return key

    found, result = run(lambda p: {"keys": p | sf.Create([("a", 1), 5]) | sf.Map(keyed)})
    assert found == {"keys": ["a"]}
    assert "asks for the key, so the DoFn needs (key, value) pairs, got 5" in result.dead_letters[0]["error"]
