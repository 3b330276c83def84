"""The works that measure StreamFlow alone, at sizes that take seconds: what is claimed of a run holds, and a run that
lost something is not verified."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loadgen.bench.alone import acks, consume, growth, idle, latency, messages, publish, recovery, sessions
from loadgen.bench.harness import Plan, bench
from loadgen.bench.inputs import written
from loadgen.bench.job import JOB_VARIABLE, Job
from loadgen.bench.result import Run
from loadgen.bench.works import WORKS, Work
from loadgen.profiles import ads
from streamflow.base.errors import DataError

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """A job of this process, over 2,000 events."""

    def make(work: str, **parameters: float) -> Job:
        made = Job.make(work, "streamflow", written(folder, 2_000), 1, tmp_path, parameters)
        made.write(tmp_path / "job.json")
        monkeypatch.setenv(JOB_VARIABLE, str(tmp_path / "job.json"))
        return made

    return make


def measured(
    folder: Path, work: str, events: int = 20_000, *, points: list[int] | None = None, **options: float
) -> list[Run]:
    return bench(Plan([work], [], events, folder, repeat=1, cores=1, options=options, points=points or []))


@pytest.mark.parametrize(("name", "work"), WORKS.items())
def test_every_work_has_what_it_is_measured_by(name: str, work: Work) -> None:
    assert work.help
    if work.module is not None:
        module = importlib.import_module(work.module)
        assert name in module.RUNNERS["streamflow"]
        assert callable(module.prepare)
        assert callable(module.verified)


def test_a_work_takes_the_options_that_it_knows_and_is_measured_at_each_point() -> None:
    work = Work("", options={"rate": 5.0, "keys": 2.0}, varied="windows", points=(1, 10))

    assert work.parameters({"keys": 3.0, "other": 1.0}, []) == [
        {"rate": 5.0, "keys": 3.0, "windows": 1},
        {"rate": 5.0, "keys": 3.0, "windows": 10},
    ]
    assert work.parameters({}, [7]) == [{"rate": 5.0, "keys": 2.0, "windows": 7}]
    assert Work("").parameters({"keys": 3.0}, [7]) == [{}]


def test_sessions_are_those_of_one_query_over_all_events(folder: Path) -> None:
    (run,) = measured(folder, "sessions", keys=2_000)
    assert run.verified
    assert run.extra["sessions"] > 2_000


def test_memory_is_verified_by_sessions_and_by_what_is_left(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("sessions-memory", keys=10)
    right = sessions.sessions_of(
        pl.concat([f for n in range(sessions.GENERATIONS) for f in sessions._generation(made, n)])
    )
    monkeypatch.setattr(sessions, "read_table", lambda _: right)
    assert right.height == 10 * sessions.GENERATIONS
    assert sessions.verified(made, {"end_to_start": 1.1})
    assert not sessions.verified(made, {"end_to_start": 1.3})
    monkeypatch.setattr(sessions, "read_table", lambda _: right.head(99))
    assert not sessions.verified(made, {"end_to_start": 1.1})


@pytest.mark.parametrize("work", ["publish-json", "publish-envelope"])
def test_publishing_counts_the_publisher_alone(folder: Path, work: str) -> None:
    (run,) = measured(folder, work)

    assert run.verified
    assert 0 < run.seconds_inner < run.seconds
    assert 0 < run.cpu_seconds < run.seconds
    assert run.extra["batches"] == -(-20_000 // run.extra["batch_events"])


@pytest.mark.parametrize("work", ["publish-json", "publish-envelope"])
@pytest.mark.parametrize("other", [{"events": 1_999}, {"seed": 1}])
def test_a_topic_with_other_events_is_not_verified(job: Callable[..., Job], work: str, other: dict[str, Any]) -> None:
    made = job(work)
    publish.RUNNERS["streamflow"][work](replace(made, **other))

    assert not publish.verified(made, {})


@pytest.mark.parametrize("work", ["consume-json", "consume-envelope"])
def test_reading_decodes_every_event(folder: Path, work: str) -> None:
    (run,) = measured(folder, work, 2_000)

    assert run.verified
    assert run.events == 2_000
    assert 0 < run.seconds_inner < run.seconds


def test_reading_less_is_not_verified(job: Callable[..., Job]) -> None:
    made = job("consume-envelope")
    consume.prepare(made)
    told = dict(consume.RUNNERS["streamflow"]["consume-envelope"](made) or {})

    assert consume.verified(made, dict(told))
    for name in ("events", "micros", "views"):
        assert not consume.verified(made, told | {name: told[name] - 1})


@pytest.mark.parametrize("work", ["acks-in-order", "acks-random"])
def test_acks_are_measured_for_each_size_of_lease(folder: Path, work: str) -> None:
    runs = measured(folder, work, points=[1, 100])

    assert [run.point for run in runs] == ["lease 1", "lease 100"]
    for run in runs:
        assert run.verified
        assert run.extra["acks_per_s_batched"] > run.extra["acks_per_s_with_pulls"]


def test_an_ack_that_does_not_hold_is_not_verified(job: Callable[..., Job]) -> None:
    made = job("acks-random", lease=10)
    told = dict(acks.RUNNERS["streamflow"]["acks-random"](made) or {})

    assert acks.verified(made, told)
    assert not acks.verified(made, told | {"held": told["held"] - 1})


@pytest.mark.parametrize("work", ["acks-embedded", "client-batches", "client-singles"])
def test_work_with_subscriptions_is_verified_only_if_every_ack_held(job: Callable[..., Job], work: str) -> None:
    made = replace(job(work, ids=100), events=300)
    told = dict(messages.RUNNERS["streamflow"][work](made) or {})

    assert messages.verified(made, told)
    assert not messages.verified(made, told | {"held": 299})


def test_scaling_measures_both_numbers_of_workers(folder: Path) -> None:
    runs = measured(folder, "scale-envelope", 2_000)

    assert [run.point for run in runs] == ["workers 1", "workers 2"]
    assert all(run.verified for run in runs)


@pytest.mark.parametrize(
    ("work", "rows"),
    [
        # All in up to three windows; in the windows' case 10 users in each.
        ("growth-keys", range(20, 61)),
        ("growth-windows", range(200, 201)),
        ("growth-partitions", range(1_000, 2_001)),
        ("growth-topics", range(1_000, 2_001)),
        ("growth-pipelines", range(1_000, 2_001)),
    ],
)
def test_growth_gives_the_same_answer_at_each_point(folder: Path, work: str, rows: range) -> None:
    runs = measured(folder, work, 2_000, points=[20])

    assert all(run.verified for run in runs)
    assert [run.extra["rows"] in rows for run in runs] == [True]


def test_growth_without_some_events_is_not_verified(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    made = job("growth-keys", keys=5)
    growth.prepare(made)
    growth.RUNNERS["streamflow"]["growth-keys"](made)
    frames = list(growth._frames(made))

    assert growth.verified(made, {})
    monkeypatch.setattr(growth, "_frames", lambda _: frames[:-1])
    assert not growth.verified(made, {})


def test_idle_worker_is_weighed_and_was_alive(folder: Path) -> None:
    (run,) = measured(folder, "idle", duration_s=0.5)

    assert run.verified
    assert 20 * MEBIBYTE < run.extra["pss_bytes"] <= run.extra["rss_bytes"]
    assert 0 <= run.extra["cpu_share"] < 1
    assert run.events == idle.EVENTS + 1


def test_recovery_tells_when_new_events_and_old_state_have_come_through(folder: Path) -> None:
    (run,) = measured(folder, "recovery", keys=3_000)

    assert run.verified
    assert 0 < run.extra["taken_s"] < run.extra["taken_after_kill_s"]
    assert run.extra["fired_s"] > 0
    assert run.events == 3_000


def test_recovery_that_lost_state_is_not_verified(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    made = job("recovery", keys=500)
    right = (
        pl.concat([recovery._state(made), recovery._news(made)])
        .group_by("user_id")
        .agg(events=pl.len().cast(pl.Int64), micros=(pl.col("event_time") % 1_000_000).sum())
        .with_columns(window_start_us=ads.START_US_DEFAULT)
    )
    for table, whole in ((right, True), (right.head(499), False), (right.with_columns(pl.col("events") - 1), False)):
        monkeypatch.setattr(recovery, "read_table", lambda _, table=table: table)
        assert recovery.verified(made, {}) is whole


@pytest.mark.parametrize("work", ["latency-table", "latency-rows"])
def test_latency_is_measured_of_every_event_after_the_warm_up(folder: Path, work: str) -> None:
    (run,) = measured(folder, work, rate=2_000, duration_s=latency.WARM_UP_S + 1)

    assert run.verified
    assert run.events == 8_000
    assert run.extra["measured_events"] == 2_000
    quantiles = [run.extra[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms")]
    assert quantiles == sorted(quantiles)
    assert quantiles[0] > 0


def test_schedule_spaces_events_evenly_in_whole_batches(job: Callable[..., Job]) -> None:
    schedule = latency._Schedule(job("latency-table", rate=1_500.0, duration_s=1.01))

    assert (schedule.batch, schedule.batches, schedule.events) == (15, 101, 1_515)
    assert schedule.sent_us(1_000, pl.Series([0, 3, 1_500])).to_list() == [1_000, 3_000, 1_001_000]


def test_latency_with_a_lost_or_doubled_event_is_not_verified(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("latency-table", rate=100.0, duration_s=4.0)
    latency._file(made, "load").write_text('{"start_us": 1000}')
    n = pl.int_range(400, eager=True).alias("n")
    right = pl.DataFrame({"n": n, "sent_us": 1_000 + n * 10_000})
    for table, whole in ((right, True), (right.head(399), False), (pl.concat([right, right.head(1)]), False)):
        monkeypatch.setattr(latency, "_table", lambda _, table=table: table)
        assert latency.verified(made, {"measured_events": 100}) is whole
    monkeypatch.setattr(latency, "_table", lambda _: right)
    assert not latency.verified(made, {"measured_events": 99})


def test_latency_without_anything_after_the_warm_up_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="--seconds must be above 3"):
        measured(folder, "latency-table", rate=100, duration_s=2)


def test_command_lists_the_works_and_refuses_what_is_no_number(finish: Callable[..., Any], tmp_path: Path) -> None:
    _, out, _ = finish("bench", "--help")
    code, _, err = finish("bench", "growth-keys", "--points", "1,many", "--inputs", tmp_path)

    assert all(name in out for name in WORKS)
    assert code == 2
    assert "--points '1,many' is not a list of numbers" in err


def test_command_shows_what_a_work_measured_and_compares_its_points(finish: Callable[..., Any], folder: Path) -> None:
    code, out, err = finish(
        "bench", "growth-windows", "--events", 2_000, "--points", "1,20", "--cores", 1, "--inputs", folder
    )

    assert code == 0, err
    assert "windows 20" in out
    assert "1.00" in out
