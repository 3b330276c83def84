"""What published Beam snippets use besides transforms: options, plain values, chains, type hints, error handlers. These
are the claims of docs/beam.md."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pipelines import collected, make_topic, ordered, publish_json

import streamflow as sf
from streamflow.io import fileio
from streamflow.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from streamflow.options.value_provider import NestedValueProvider, StaticValueProvider
from streamflow.runners import DirectRunner
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.test_utils import create_file, read_files_from_pattern
from streamflow.testing.util import assert_that, equal_to
from streamflow.transforms.deduplicate import Deduplicate, DeduplicatePerKey
from streamflow.transforms.error_handling import CollectingErrorHandler, ErrorHandler


class MyOptions(PipelineOptions):
    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--input", default="in.txt")
        parser.add_argument("--size", type=int, default=1)
        parser.add_value_provider_argument("--later", default="then")


def test_views_of_options_share_their_values_and_know_their_own_names() -> None:
    options = PipelineOptions(["--input=a", "--runner", "DirectRunner", "--streaming", "--unknown", "1"], project="p")
    mine = options.view_as(MyOptions)
    assert (mine.input, mine.size, mine.later.get()) == ("a", 1, "then")
    mine.size = 5
    assert options.view_as(MyOptions).size == 5
    assert options.get_all_options()["size"] == 5
    options.view_as(SetupOptions).save_main_session = True
    assert options.view_as(StandardOptions).streaming
    assert options.view_as(GoogleCloudOptions).project == "p"
    changed = options.get_all_options(drop_default=True)
    assert changed == {
        "input": "a",
        "size": 5,
        "project": "p",
        "runner": "DirectRunner",
        "streaming": True,
        "save_main_session": True,
    }
    for name in ("project", "nothing"):
        with pytest.raises(AttributeError, match=f"no option '{name}'"):
            getattr(mine, name)
        with pytest.raises(AttributeError, match=f"no option '{name}'"):
            setattr(mine, name, 1)


def test_options_can_be_made_of_a_mapping() -> None:
    options = PipelineOptions.from_dictionary({"size": 0, "streaming": True, "input": None, "experiments": ["a", "b"]})
    assert options.view_as(MyOptions).size == 0
    assert options.view_as(MyOptions).input == "in.txt"
    assert options.view_as(StandardOptions).streaming
    assert options.get_all_options()["experiments"] == ["a", "b"]


def test_numbers_unknown_options_and_experiments() -> None:
    options = PipelineOptions(["--num_workers=3", "--odd", "--even=2", "--none", "x", "--experiments=a=1"])
    assert options.view_as(WorkerOptions).num_workers == 3
    known = options.get_all_options(retain_unknown_options=True)
    assert (known["odd"], known["even"], known["none"]) == (True, "2", "x")
    assert "odd" not in options.get_all_options()
    options.view_as(DebugOptions).add_experiment("b")
    found = [options.view_as(DebugOptions).lookup_experiment(key) for key in ("a", "b", "c")]
    assert found == ["1", True, None]


def test_value_providers_give_values_that_are_known() -> None:
    later = NestedValueProvider(StaticValueProvider(int, "4"), lambda value: value + 1)
    assert later.is_accessible()
    assert later.get() == 5


@pytest.mark.parametrize("runner", [None, "DirectRunner", DirectRunner(), DirectRunner])
def test_a_pipeline_takes_a_runner_and_options_and_its_result_a_state(runner: Any, caplog: Any) -> None:
    p = sf.Pipeline(runner=runner, options=PipelineOptions(["--size", "3"]))
    p | sf.Create([1])
    result = p.run()
    assert (result.state, result.wait_until_finish()) == ("DONE", "DONE")
    assert p.options.view_as(MyOptions).size == 3
    assert "runner" not in caplog.text


def test_a_runner_that_stands_for_a_service_is_told_of(caplog: Any) -> None:
    sf.Pipeline(argv=["--runner=DataflowRunner"])
    assert "DataflowRunner is not here" in caplog.text


def split(number: int) -> Iterator[Any]:
    yield sf.TaggedOutput("odd", number) if number % 2 else number


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: [1, 2] | sf.Map(lambda n: n + 1), [2, 3]),
        (lambda: range(3) | sf.Filter(lambda n: n), [1, 2]),
        (lambda: [("a", 1), ("a", 2)] | sf.GroupByKey() | sf.CombineValues(sum), [("a", 3)]),
        (lambda: ([1], [2]) | sf.Flatten() | sf.CombineGlobally(sum), [3]),
        (lambda: {"x": [("a", 1)], "y": [("a", 2)]} | sf.CoGroupByKey(), [("a", {"x": [1], "y": [2]})]),
        (lambda: [1, 2] | (sf.Map(lambda n: n + 1) | sf.Map(lambda n: n * 2)), [4, 6]),
        (lambda: [] | sf.Map(str), []),
    ],
)
def test_transforms_work_on_plain_values(build: Any, expected: list[Any]) -> None:
    assert ordered(build()) == expected


def test_of_plain_values_several_outputs_are_lists_by_tag() -> None:
    outputs = [1, 2, 3] | sf.FlatMap(split).with_outputs("odd", main="even")
    even, odd = outputs
    assert (even, sorted(odd), outputs.even, sorted(outputs["odd"])) == ([2], [1, 3], [2], [1, 3])


def test_what_a_function_raises_is_raised_where_nobody_looks_for_dead_letters() -> None:
    with pytest.raises(ZeroDivisionError):
        [0] | sf.Map(lambda n: 1 // n)
    with pytest.raises(ZeroDivisionError), TestPipeline() as p:
        p | sf.Create([0]) | sf.Map(lambda n: 1 // n)
    plain = sf.Pipeline()
    plain | sf.Create([0]) | sf.Map(lambda n: 1 // n)
    assert isinstance(plain.run().first_error, ZeroDivisionError)


@pytest.mark.parametrize("error", [ValueError, TypeError, RuntimeError])
def test_a_refused_pipeline_is_an_error_of_each_class_that_beam_raises(error: type[Exception]) -> None:
    p = sf.Pipeline()
    p | "same" >> sf.Create([1])
    with pytest.raises(error):
        p | "same" >> sf.Create([2])
    p | sf.Create([1])
    p.apply(sf.Create([3]), label="by apply")
    with pytest.raises(error):
        p.apply(sf.Create([3]), p, "by apply")


def test_failed_elements_of_several_transforms_come_to_one_handler() -> None:
    with TestPipeline() as p:
        with ErrorHandler(sf.Map(lambda bad: bad[0])) as handler:
            good = p | sf.Create([1, 0]) | "One" >> sf.Map(lambda n: 6 // n).with_error_handler(handler)
            rest = good | "Two" >> sf.Map(lambda n: 1 // (n - 6)).with_error_handler(handler)
        assert_that(rest, equal_to([]), label="rest")
        assert_that(handler.output(), equal_to([0, 6]), label="bad")


def test_errors_that_nobody_would_see_are_refused() -> None:
    handlers = (ErrorHandler(sf.Map(str)), "Unclosed"), (CollectingErrorHandler(), "requires the output")
    for handler, words in handlers:
        with pytest.raises(RuntimeError, match=words), sf.Pipeline() as p:
            p | sf.Create([1]) | sf.Map(str).with_error_handler(handler)
    assert isinstance(sf.Map(str).with_error_handler(None), sf.Map)


@pytest.mark.parametrize(
    ("once", "expected"),
    [
        (DeduplicatePerKey(event_time_duration=10), [("a", 1), ("a", 3), ("b", 1)]),
        (DeduplicatePerKey(processing_time_duration=3600), [("a", 1), ("b", 1)]),
    ],
)
def test_one_of_a_key_passes_within_the_time(once: sf.PTransform, expected: list[Any]) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    passed: list[Any] = []
    for pair, second in ((["a", 1], 0), (["b", 1], 1), (["a", 2], 2), (["b", 2], 50), (["a", 3], 60)):
        publish_json(log, [{"pair": pair}], [second * 1_000_000])
        p = sf.Pipeline("once", on=log)
        pairs = p | sf.ReadFromTopic("in", bounded=True) | sf.Map(lambda event: tuple(event["pair"]))
        pairs | once | sf.Map(passed.append)
        p.run(until="drained")
    assert ordered(passed) == expected


def test_equal_elements_pass_once_and_a_time_is_demanded() -> None:
    once = collected(lambda p: p | sf.Create([1, 2, 1]) | Deduplicate(processing_time_duration=60))
    assert sorted(once) == [1, 2]
    with pytest.raises(ValueError, match="how long"):
        Deduplicate()


def bounded_sum(values: Any, bound: int = 0, *, less: int = 0) -> int:
    return min(sum(values), bound) - less


class Offset(sf.combiners.CountCombineFn):
    def extract_output(self, accumulator: int, offset: int = 0) -> int:
        return accumulator + offset

    def create_accumulator(self, offset: int = 0) -> int:
        return 0

    def add_input(self, accumulator: int, element: Any, offset: int = 0) -> int:
        return accumulator + 1


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (lambda side: sf.CombinePerKey(bounded_sum, side, less=1), [("a", 3), ("b", 1)]),
        (lambda side: sf.CombinePerKey(Offset(), offset=side), [("a", 6), ("b", 5)]),
        (lambda side: sf.Values() | sf.CombineGlobally(bounded_sum, bound=side), [4]),
        (lambda side: sf.Values() | sf.CombineGlobally(Offset(), side), [7]),
        (lambda side: sf.GroupByKey() | sf.CombineValues(bounded_sum, side), [("a", 4), ("b", 2)]),
    ],
)
def test_a_combination_can_be_given_side_inputs(combine: Any, expected: list[Any]) -> None:
    def build(p: sf.Pipeline) -> Any:
        side = sf.pvalue.AsSingleton(p | "Side" >> sf.Create([4]))
        return p | sf.Create([("a", 2), ("a", 3), ("b", 2)]) | combine(side)

    assert ordered(collected(build)) == expected


def test_contexts_are_open_while_their_function_runs() -> None:
    happened: list[str] = []

    @contextlib.contextmanager
    def noted(name: str) -> Iterator[str]:
        happened.append(f"+{name}")
        yield name
        happened.append(f"-{name}")

    setup, bundle = (
        sf.DoFn.SetupContextParam(noted, args=("setup",)),
        sf.DoFn.BundleContextParam(noted, kwargs={"name": "bundle"}),
    )

    def shown(
        element: int,
        a: Any = setup,
        b: Any = bundle,
    ) -> None:
        happened.append(f"{a} {b} {element}")

    collected(lambda p: p | sf.Create([1]) | sf.Map(shown))
    assert [*dict.fromkeys(happened)] == ["+setup", "+bundle", "setup bundle 1", "-bundle", "-setup"]


class Timed(sf.DoFn):
    def process(self, element: Any = sf.DoFn.ElementParam, timestamp: Any = sf.DoFn.TimestampParam) -> Any:
        yield element, timestamp


def test_the_first_parameter_may_say_that_it_is_the_element() -> None:
    pairs = collected(lambda p: p | sf.Create([sf.TimestampedValue("a", 5)]) | sf.ParDo(Timed()))
    assert pairs == [("a", sf.Timestamp(5))]
    assert sf.TaggedOutput[str, int]  # as annotations have it


def test_a_test_pipeline_knows_its_command_line(tmp_path: Path) -> None:
    p = TestPipeline(argv=["--project", "x", "--zone=y", "--dry"])
    assert (p.get_option("project"), p.get_option("zone"), p.get_option("none")) == ("x", "y", None)
    assert p.get_option("dry", bool_option=True)
    full = p.get_full_options_as_args(output="o", wet=True, empty=None)
    assert full == ["--project", "x", "--zone=y", "--dry", "--output=o", "--wet"]
    path = create_file(str(tmp_path / "deep" / "a.txt"), "one\n")
    assert read_files_from_pattern(f"{tmp_path}/deep/a*") == "one\n" == Path(path).read_text()


class Player:
    def __init__(self, name: str) -> None:
        self.name = name


class PlayerCoder(sf.coders.Coder):
    def is_deterministic(self) -> bool:
        return True

    def encode(self, value: Player) -> bytes:
        return value.name.encode()

    def decode(self, encoded: bytes) -> Player:
        return Player(encoded.decode())


def test_a_class_with_a_registered_coder_can_be_a_key() -> None:
    sf.coders.registry.register_coder(Player, PlayerCoder)
    pairs = [(Player("ann"), 1), (Player("bob"), 5), (Player("ann"), 3)]
    totals = collected(lambda p: p | sf.Create(pairs) | sf.CombinePerKey(sum))
    assert sorted((player.name, total) for player, total in totals) == [("ann", 4), ("bob", 5)]


def test_files_can_be_found_and_read_while_a_pipeline_runs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("head\n1\n2\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"head\n3\r\n"))
    pattern = str(tmp_path / "*.txt*")
    read = collected(lambda p: p | sf.Create([pattern]) | sf.io.ReadAllFromText(skip_header_lines=1))
    assert sorted(read) == ["1", "2", "3"]
    named = collected(lambda p: p | sf.Create([pattern]) | sf.io.ReadAllFromText(with_filename=True))
    assert (str(tmp_path / "a.txt"), "1") in named
    assert len(named) == 5
    files = collected(lambda p: p | fileio.MatchFiles(pattern) | fileio.ReadMatches())
    contents = {Path(file.metadata.path).name: file.read_utf8() for file in files}
    assert contents == {"a.txt": "head\n1\n2\n", "b.txt.gz": "head\n3\r\n"}
    with pytest.raises(sf.DataError, match="no file"), TestPipeline() as p:
        p | fileio.MatchFiles(str(tmp_path / "none"))


class Hexadecimal(sf.coders.Coder):
    def encode(self, value: int) -> bytes:
        return hex(value).encode()

    def decode(self, encoded: bytes) -> int:
        return int(encoded, 16)


def test_lines_can_have_a_coder(tmp_path: Path) -> None:
    with sf.Pipeline(data=tmp_path) as p:
        p | sf.Create([10, 255]) | sf.io.WriteToText(tmp_path / "hex", coder=Hexadecimal(), num_shards=1)
    back = collected(lambda p: p | sf.io.ReadFromText(tmp_path / "hex*", coder=Hexadecimal(), validate=False))
    assert sorted(back) == [10, 255]


def test_labels_of_ones_own_are_unique_and_others_are_numbered() -> None:
    p = sf.Pipeline()
    ones = p | sf.Create([1])
    ones | sf.Map(str)
    ones | sf.Map(str)
    assert [node.label for node in p.nodes] == ["Create", "Map(str)", "Map(str)-2"]
    assert collected(lambda p: p | sf.Impulse()) == [b""]
