"""What `explain` says, that it is true of what the engine does, and that its drawing can be read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from explain_making import SCHEMA, columnar, composed, rows, stateful
from pipelines import end_topic, make_topic, publish_json

import streamflow as sf
from streamflow.base.errors import PipelineError
from streamflow.engine.calls import Calls
from streamflow.engine.context import StepContext
from streamflow.engine.explain.runs import as_run, query
from streamflow.engine.explain.words import columns, duration
from streamflow.engine.explain.written import as_written
from streamflow.engine.operators.compiler import compile_steps
from streamflow.engine.operators.frames import FrameOperator
from streamflow.engine.operators.leaves import Shuffle, Spread
from streamflow.engine.plan import build_plan
from streamflow.examples import ads, flights
from streamflow.examples.nexmark import q8
from streamflow.model.batch import OFFSET
from streamflow.topics.memory import MemoryLog

COLUMNAR = f"""\
pipeline counts

As written
  In
      topic 'in'
      event time: time of publication, out of order by up to 1500 ms
    → Keep
        k String, v Int64
        global window, unbounded
    → Raw
        k String, v Int64
        global window, unbounded
  Keep
      keeps {sf.col("v").is_not_null()}
    → WindowInto
        k String, v Int64
        global window, unbounded
  WindowInto
      fixed windows of 1 min, lateness 90 s, discarding
    → Count
        k String, v Int64
        fixed windows of 1 min, lateness 90 s, discarding, unbounded
  Count
      by k
      m = Mean(v)
    → Brief
        k String, window_start Datetime[UTC], window_end Datetime[UTC], m Float64
        fixed windows of 1 min, lateness 90 s, discarding, unbounded
  Brief
      takes k, m
    → Table
        k String, m Float64
        fixed windows of 1 min, lateness 90 s, discarding, unbounded
  Table
      Delta table 'counts'
  Raw
      topic 'raw'

As run
  stage in [source]: reads in, a task for each partition of the topic
    In
        decodes from JSON only k, v
        passes other fields unparsed
        event time: time of publication, out of order by up to 1500 ms
      → one query over columns
          k String, v Int64
          global window, unbounded
      → Raw
          k String, v Int64
          global window, unbounded
    one query over columns
        Keep: keeps {sf.col("v").is_not_null()}
        Count: partial aggregation per k and window
      → Count through log counts.count, 4 partitions by k
          k String, m.sum Int64, m.count Int64 + window, number of events, time
    Raw
        topic 'raw'
  stage count [grouping]: reads counts.count, 4 tasks
    Count
        merges partials per k and window
        gives a pane when the watermark passes a window's end
        and up to 90 s later for late events, with what is new
      → one query over columns
          k String, window_start Datetime[UTC], window_end Datetime[UTC], m Float64
          fixed windows of 1 min, lateness 90 s, discarding, unbounded
    one query over columns
        Brief: takes k, m
        Table: prepares rows for the store
      → Table through log counts.table, 1 partition
          k String, m Float64 + time
  stage table [sink]: reads counts.table, 1 task
    Table
        Delta table 'counts'
        writes each row once: by its offset in the log
  Events that fail go to topic 'counts.dead-letter', with their input and error."""

ROWS = """\
pipeline words

As written
  Create
      2 given values
    → Pair
        Python values
        global window, bounded
  Pair
      Map(<lambda>)
    → CombinePerKey(sum)
        Python values
        global window, bounded
  CombinePerKey(sum)
    → Out
        Python values
        global window, bounded
  Out
      topic 'out'

As run
  stage create [create]: reads words.create, 1 task
    Create
        2 given values
      → Pair
          Python values
          global window, bounded
    Pair
        Map(<lambda>)
      → CombinePerKey(sum)
          Python values
          global window, bounded
    CombinePerKey(sum)
        partial aggregation per key
      → CombinePerKey(sum) through log words.combineperkey-sum, 2 partitions by key
          key, window, number of events, accumulator (pickled), time
  stage combineperkey-sum [grouping]: reads words.combineperkey-sum, 2 tasks
    CombinePerKey(sum)
        merges partials per key
        gives results when its input has ended
      → Out
          Python values
          global window, bounded
    Out
        topic 'out'
  Events that fail go to topic 'words.dead-letter', with their input and error."""

COMPOSED = f"""\
pipeline both

As written
  A
      topic 'a'
      event time: time of publication
    → Flatten
        Python values
        global window, unbounded
  B
      topic 'b'
      event time: field at
    → Flatten
        Python values
        global window, unbounded
  Join
    Flatten
      → Days
          Python values
          global window, unbounded
    Days
        sliding windows of 1 d every 1 h
      → GroupByKey
          Python values
          sliding windows of 1 d every 1 h, unbounded
    GroupByKey
      → Dict
          Python values
          sliding windows of 1 d every 1 h, unbounded
    Inner
      Dict
          Map(<lambda>)
        → AsColumns
            Python values
            sliding windows of 1 d every 1 h, unbounded
      AsColumns
          declares the columns
        → Rows
            k String
            sliding windows of 1 d every 1 h, unbounded
  Rows
      row store 'rows', family 'f'
      row key {sf.col("k")}

As run
  stage a [source]: reads a, a task for each partition of the topic
    A
        decodes whole JSON documents
        event time: time of publication
      → Join/GroupByKey
          Python values
          sliding windows of 1 d every 1 h, unbounded
    Join/GroupByKey
        partial aggregation per key and window
      → Join/GroupByKey through log both.join-groupbykey, 2 partitions by key
          key, window, number of events, accumulator (pickled), time
  stage b [source]: reads b, a task for each partition of the topic
    B
        decodes whole JSON documents
        event time: field at
      → Join/GroupByKey
          Python values
          sliding windows of 1 d every 1 h, unbounded
    Join/GroupByKey
        partial aggregation per key and window
      → Join/GroupByKey through log both.join-groupbykey, 2 partitions by key
          key, window, number of events, accumulator (pickled), time
  stage join-groupbykey [grouping]: reads both.join-groupbykey, 2 tasks
    Join/GroupByKey
        merges partials per key and window
        gives a pane when the watermark passes a window's end
      → Join/Inner/Dict
          Python values
          sliding windows of 1 d every 1 h, unbounded
    Join/Inner/Dict
        Map(<lambda>)
      → Join/Inner/AsColumns
          Python values
          sliding windows of 1 d every 1 h, unbounded
    Join/Inner/AsColumns
        declares the columns
      → Rows
          k String
          sliding windows of 1 d every 1 h, unbounded
    Rows
        prepares rows for the store
      → Rows through log both.rows, 1 partition
          k String + time, window, pane, row key
  stage rows [sink]: reads both.rows, 1 task
    Rows
        row store 'rows', family 'f'
        row key {sf.col("k")}
        writes each row once: by its offset in the log
  Events that fail go to topic 'both.dead-letter', with their input and error."""


@pytest.mark.parametrize(("build", "told"), [(columnar, COLUMNAR), (rows, ROWS), (composed, COMPOSED)])
def test_explain_tells_what_was_written_and_what_runs(build: Callable[[], sf.Pipeline], told: str) -> None:
    assert build().explain() == told


def test_a_stage_with_state_says_what_it_keeps() -> None:
    assert """
  stage number [stateful]: reads state.number, 2 tasks
    Number
        ParDo(Numbered)
        keeps per key:
        ReadModifyWriteState(count)
        Timer(flush, WATERMARK)
      → Number.main
""" in stateful().explain()


def test_another_format_is_refused() -> None:
    with pytest.raises(PipelineError, match="There are: 'text', 'svg'"):
        rows().explain("png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("micros", "said"),
    [(0, "0 d"), (86_400_000_000, "1 d"), (90_000_000, "90 s"), (46_800_000_000, "13 h"), (1_500, "1500 µs")],
)
def test_durations_are_told_in_the_largest_unit_that_divides_them(micros: int, said: str) -> None:
    assert duration(micros) == said


def test_a_kind_without_words_of_its_own_is_called_by_its_label_of_default() -> None:
    class Halve(sf.DoFn):
        pass

    p = sf.Pipeline()
    p | sf.Create([1]) | "Mine" >> sf.ParDo(Halve())
    assert as_written(p).boxes[-1].lines == ("ParDo(Halve)",)


@pytest.mark.parametrize("pipeline", [ads.pipeline, flights.pipeline, q8.pipeline, columnar()], ids=lambda p: p.name)
def test_what_is_said_to_be_one_query_is_one(pipeline: sf.Pipeline) -> None:
    for stage in build_plan(pipeline).stages:
        for step in stage.steps:
            (operator,) = compile_steps([step], lambda topic: 4, partition=0, rows_only=False, learnt={}, calls=Calls())
            parts = operator.parts if isinstance(operator, FrameOperator) else [(step.node.label, None)]
            assert [label for label, _ in parts] == [each.node.label for each in query(step)]


@pytest.mark.parametrize("build", [columnar, rows, composed, stateful])
@pytest.mark.parametrize("rows_only", [False, True])
def test_columns_that_are_said_to_cross_a_log_do(
    build: Callable[[], sf.Pipeline], rows_only: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crossed: dict[str, str] = {}

    def watched(run: Callable[[Any, pl.DataFrame, StepContext], None]) -> Any:
        def noting(self: Any, batch: Any, context: StepContext) -> None:
            known = batch.drop(OFFSET, strict=False).schema if isinstance(batch, pl.DataFrame) else None
            crossed[self.topic] = columns(known) if known else "Python values, pickled"
            run(self, batch, context)

        return noting

    for operator in (Shuffle, Spread):
        monkeypatch.setattr(operator, "run", watched(operator.run))
    pipeline = build()
    pipeline.settings = replace(pipeline.settings, rows_only=rows_only)
    log = MemoryLog()
    for topic, event in {"in": {"k": "x", "v": 1}, "a": ["k", "y"], "b": {"at": 5}, "raw": None, "out": None}.items():
        make_topic(log, topic, partitions=1)
        if event is not None:
            publish_json(log, [event], topic=topic)
            end_topic(log, topic)
    pipeline.run(on=log, data=tmp_path)
    said = {edge.log: edge.lines[0] for edge in as_run(build_plan(pipeline, pipeline.settings)).edges if edge.log}
    assert {topic: told for log, told in said.items() for topic in [log.split()[1].rstrip(",")]} == crossed


def test_a_grouping_with_a_trigger_says_when_it_gives_panes_and_that_elements_cross_one_by_one() -> None:
    pipeline = sf.Pipeline("clicks")
    windows = sf.WindowInto(
        sf.Sessions(600),
        trigger=sf.trigger.AfterWatermark(early=sf.trigger.AfterCount(10)),
        accumulation_mode=sf.AccumulationMode.ACCUMULATING,
    )
    pipeline | sf.ReadFromTopic("in", schema={"k": str}) | windows | sf.Aggregate(by=["k"], n=sf.Count())
    said = pipeline.explain()
    assert "gives panes by AfterWatermark(early=AfterCount(10))" in said
    assert "hands on each element" in said
    assert "partial aggregation" not in said


def test_joins_by_time_are_said_in_words() -> None:
    p = sf.Pipeline("joins", settings=sf.Settings(partitions=2))
    left, right = (p | name >> sf.ReadFromTopic(name, schema=SCHEMA | {"gone": bool}) for name in ("left", "right"))
    left | sf.IntervalJoin(right, on="k", lower=-90, upper=0, how="left") | "A" >> sf.WriteToTopic("a")
    left | sf.AsOfJoin(right, on=["k", "v"], tolerance=60, how="inner") | "B" >> sf.WriteToTopic("b")
    left | sf.TableJoin(right, on="k", deleted="gone") | "C" >> sf.WriteToTopic("c")
    said = p.explain()
    assert "by k, right from -90 s to 0 s after left\n        also left without a partner" in said
    assert "by k, v, newest of the right up to the left's time, within 1 min" in said
    assert "none where gone is true" in said
    assert "stage intervaljoin-match [join]: reads joins.intervaljoin-match, 2 tasks" in said
    crossing = "key.k String, left.v Int64, left.gone Boolean, right.v Int64, right.gone Boolean + time, whose row"
    assert f"through log joins.intervaljoin-match, 2 partitions by k\n          {crossing}" in said
