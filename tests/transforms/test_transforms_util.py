"""The small transforms in pipelines: what Beam's answer is."""

import logging
import re
from typing import Any

import polars as pl
import pytest
from pipelines import end_topic, make_topic, publish_frame, publish_json

import streamflow as sf
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import TestWindowedValue, assert_that, contains_in_any_order, equal_to

PAIRS = [("a", 1), ("b", 2), ("a", 3)]
PLANTS = ["# leek - 12", "pea - 7", "! bean", "corn - 40 corn - 41"]
NAMED = r"(?P<name>[a-z]+) - (?P<count>\d+)"

CASES: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "keys": (PAIRS, sf.Keys(), ["a", "b", "a"]),
    "values": (PAIRS, sf.Values(), [1, 2, 3]),
    "swap": (PAIRS, sf.KvSwap(), [(1, "a"), (2, "b"), (3, "a")]),
    "with keys of a function": (["ab", "c"], sf.WithKeys(len), [(2, "ab"), (1, "c")]),
    "with keys of a function with arguments": (["ab"], sf.WithKeys(lambda s, n: s[:n], 1), [("a", "ab")]),
    "with one key": ([1], sf.WithKeys("k"), [("k", 1)]),
    "distinct": ([1, 2, 1, (3,), (3,)], sf.Distinct(), [1, 2, (3,)]),
    "map tuples": (PAIRS, sf.MapTuple(lambda k, v, n: k * v * n, 2), ["aa", "bbbb", "aaaaaa"]),
    "flat map tuples": ([("a", [1, 2])], sf.FlatMapTuple(lambda k, vs: [(k, v) for v in vs]), [("a", 1), ("a", 2)]),
    "elements as text": ([1, ("a", 2)], sf.ToString.Element(), ["1", "('a', 2)"]),
    "pairs as text": ([("a", 1)], sf.ToString.Kvs(), ["a,1"]),
    "pairs as text, parted": ([("a", 1)], sf.ToString.Kvs(delimiter=" - "), ["a - 1"]),
    "iterables as text": ([[1, "b", None], []], sf.ToString.Iterables(), ["1,b,None", ""]),
    "iterables as text, parted": ([(1, 2)], sf.ToString.Iterables("/"), ["1/2"]),
    "matches": (PLANTS, sf.Regex.matches(NAMED), ["pea - 7", "corn - 40"]),
    "matches, a group": (PLANTS, sf.Regex.matches(re.compile(NAMED), group=1), ["pea", "corn"]),
    "all matches": (PLANTS, sf.Regex.all_matches(NAMED), [["pea - 7", "pea", "7"], ["corn - 40", "corn", "40"]]),
    "all matches without groups": (["abc"], sf.Regex.all_matches("ab"), [["ab"]]),
    "matches as pairs": (
        PLANTS,
        sf.Regex.matches_kv(NAMED, keyGroup="name"),
        [("pea", "pea - 7"), ("corn", "corn - 40")],
    ),
    "matches as pairs, groups": (PLANTS, sf.Regex.matches_kv(NAMED, 1, 2), [("pea", "7"), ("corn", "40")]),
    "find": (PLANTS, sf.Regex.find(NAMED), ["leek - 12", "pea - 7", "corn - 40"]),
    "find, a group": (PLANTS, sf.Regex.find(NAMED, "count"), ["12", "7", "40"]),
    "find all": (PLANTS, sf.Regex.find_all(NAMED), [["leek - 12"], ["pea - 7"], [], ["corn - 40", "corn - 41"]]),
    "find all with empty": (["abb a"], sf.Regex.find_all("a(b*)", 1), [["bb", ""]]),
    "find all without empty": (["abb a"], sf.Regex.find_all("a(b*)", 1, outputEmpty=False), [["bb"]]),
    "find all groups": (["abb a"], sf.Regex.find_all("a(b*)", sf.Regex.ALL), [[("abb", "bb"), ("a", "")]]),
    "find all groups without empty": (["abb a"], sf.Regex.find_all("a(b*)", sf.Regex.ALL, False), [[("abb", "bb")]]),
    "find as pairs": (
        PLANTS,
        sf.Regex.find_kv(NAMED, "name", "count"),
        [("leek", "12"), ("pea", "7"), ("corn", "40"), ("corn", "41")],
    ),
    "replace all": (["a b c"], sf.Regex.replace_all(r"\s", "_"), ["a_b_c"]),
    "replace all, by groups": (["ab"], sf.Regex.replace_all(r"(a)(b)", r"\2\1"), ["ba"]),
    "replace first": (["a b c"], sf.Regex.replace_first(r"\s", "_"), ["a_b c"]),
    "split": (["a, b,,c", ""], sf.Regex.split(r",\s*"), [["a", "b", "c"], []]),
    "split with empty": (["a,,b"], sf.Regex.split(",", outputEmpty=True), [["a", "", "b"]]),
    "reshuffle": (list(range(100)), sf.Reshuffle(), list(range(100))),
}


@pytest.mark.parametrize("name", CASES)
def test_transform_gives_beams_answer(name: str) -> None:
    values, transform, expected = CASES[name]
    with TestPipeline() as p:
        assert_that(p | "Values" >> sf.Create(values) | transform, equal_to(expected))


LEFT, RIGHT = [("a", 1), ("b", 2), ("a", 3)], [("a", "x"), ("c", "y")]


def test_cogroup_by_key_gathers_the_values_of_each_collection() -> None:
    with TestPipeline() as p:
        left, right = p | "Left" >> sf.Create(LEFT), p | "Right" >> sf.Create(RIGHT)
        both = {"l": left, 7: right} | "Named" >> sf.CoGroupByKey()
        ones = contains_in_any_order([1, 3])
        named = [("a", {"l": ones, 7: ["x"]}), ("b", {"l": [2], 7: []}), ("c", {"l": [], 7: ["y"]})]
        assert_that(both, equal_to(named), "named")
        placed = [("a", (ones, ["x"])), ("b", ([2], [])), ("c", ([], ["y"]))]
        assert_that((left, right) | "Tuple" >> sf.CoGroupByKey(), equal_to(placed), "tuple")
        assert_that([left, right] | "List" >> sf.CoGroupByKey(pipeline=p), equal_to(placed), "list")
        assert_that([right] | "One" >> sf.CoGroupByKey(), equal_to([("a", (["x"],)), ("c", (["y"],))]), "one")


def test_cogroup_by_key_keeps_windows_apart() -> None:
    def at(value: Any, time: float) -> sf.TimestampedValue:
        return sf.TimestampedValue(value, time)

    minute = sf.WindowInto(sf.FixedWindows(60))
    with TestPipeline() as p:
        left = p | "L" >> sf.Create([at(("k", 1), 1), at(("k", 2), 61)]) | "LW" >> minute
        right = p | "R" >> sf.Create([at(("k", 3), 59)]) | "RW" >> minute
        assert_that((left, right) | sf.CoGroupByKey(), equal_to([("k", ([1], [3])), ("k", ([2], []))]))


@pytest.mark.parametrize("left", [None, "one"])
def test_cogroup_by_key_of_no_collections_is_refused(left: str | None) -> None:
    pcoll = sf.Pipeline() | sf.Create([("a", 1)])
    with pytest.raises(sf.PipelineError):
        (pcoll if left else {}) | sf.CoGroupByKey()


def test_flatten_with_adds_collections_and_what_transforms_make() -> None:
    with TestPipeline() as p:
        first, second = p | "A" >> sf.Create([1]), p | "B" >> sf.Create([2])
        assert_that(first | sf.FlattenWith(second, "C" >> sf.Create([3])), equal_to([1, 2, 3]))


def test_tee_gives_its_input_and_to_each_consumer_too() -> None:
    seen: list[int] = []
    with TestPipeline() as p:
        numbers = p | sf.Create([1, 2])
        teed = numbers | sf.Tee(
            sf.Map(seen.append), lambda pcoll: pcoll | "Ten" >> sf.Map(lambda n: seen.append(n * 10))
        )
        assert_that(teed, equal_to([1, 2]))
    assert sorted(seen) == [1, 2, 10, 20]


STAMPED = [sf.TimestampedValue(("a", 1), 5), sf.TimestampedValue(("b", 2), 65)]
US = 1_000_000
WINDOWS = [sf.IntervalWindow(0, 60), sf.IntervalWindow(60, 120)]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (sf.Reify.Timestamp(), [("a", 1), ("b", 2)]),
        (sf.Reify.Window(), [(("a", 1), 5, WINDOWS[0]), (("b", 2), 65, WINDOWS[1])]),
        (
            sf.Reify.TimestampInValue(),
            [("a", sf.TimestampedValue(1, sf.Timestamp(5))), ("b", sf.TimestampedValue(2, sf.Timestamp(65)))],
        ),
        (sf.Reify.WindowInValue(), [("a", (1, 5, WINDOWS[0])), ("b", (2, 65, WINDOWS[1]))]),
        (sf.Reshuffle(), [("a", 1), ("b", 2)]),
    ],
)
def test_times_and_windows_become_values_and_stay_what_they_were(transform: Any, expected: list[Any]) -> None:
    with TestPipeline() as p:
        reified = p | sf.Create(STAMPED) | sf.WindowInto(sf.FixedWindows(60)) | transform
        values = [TestWindowedValue(v, t, [w]) for v, t, w in zip(expected, [5, 65], WINDOWS, strict=True)]
        assert_that(reified, equal_to(values), reify_windows=True)


def test_log_elements_shows_what_passes(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), TestPipeline() as p:
        windowed = p | sf.Create(STAMPED[:1]) | sf.WindowInto(sf.FixedWindows(60))
        shown = windowed | "Print" >> sf.LogElements(prefix="> ", with_timestamp=True, with_window=True)
        assert_that(shown | "Log" >> sf.LogElements(level=logging.INFO), equal_to([("a", 1)]))
    printed = "> ('a', 1), timestamp=Timestamp(5), window(start=Timestamp(0), end=Timestamp(60))\n"
    assert capsys.readouterr().out == printed
    assert "('a', 1)" in caplog.messages


def test_a_function_becomes_a_transform() -> None:
    @sf.ptransform_fn
    def Times(pcoll: sf.PCollection, factor: int) -> Any:  # noqa: N802
        """Multiplies."""
        return pcoll | sf.Map(lambda n: n * factor)

    with TestPipeline() as p:
        assert_that(p | sf.Create([1]) | Times(2) | "Again" >> Times(factor=3), equal_to([6]))
        assert any(node.label.startswith("Times/") for node in p.nodes)
    assert Times.__doc__ == "Multiplies."


@pytest.mark.parametrize("folder", [False, True])
def test_reshuffle_spreads_columns_and_values_over_tasks_and_loses_none(folder: bool, tmp_path: Any) -> None:
    log = sf.open_log(f"{tmp_path}/log" if folder else "memory://")
    make_topic(log, partitions=1)
    for begin in range(0, 100, 10):
        publish_frame(log, pl.DataFrame({"v": range(begin, begin + 10)}), [begin * US] * 10)
    publish_json(log, [{"v": 100}], [99 * US])
    end_topic(log)
    p = sf.Pipeline(on=log)
    read = p | sf.ReadFromTopic("in", schema={"v": pl.Int64}) | "Columns" >> sf.Reshuffle()
    assert read.shape.columns == {"v": pl.Int64()}
    values = read | sf.Map(lambda row: (row["v"],)) | "Values" >> sf.Reshuffle()
    assert_that(values, equal_to((v,) for v in range(101)))
    p.run()
    for topic in ("pipeline.columns", "pipeline.values"):
        ends = [log.end(topic, partition) for partition in range(log.topic(topic).config.partitions)]
        assert sum(ends) == 101
        assert sum(end > 0 for end in ends) > len(ends) / 2
    log.close()


def test_a_value_that_can_not_be_spread_is_a_dead_letter_and_the_others_go_on() -> None:
    with TestPipeline(dead_letters_allowed=True) as p:
        made = p | sf.Create([1, 2]) | sf.Map(lambda n: (lambda: n) if n == 1 else n)
        assert_that(made | "Spread" >> sf.Reshuffle(), equal_to([2]))
    assert [letter["transform"] for letter in p.result.dead_letters] == ["Spread"]
