"""Where a profile puts its time: these fail when functions move to where `profile.KINDS` does not look."""

import os
from types import CodeType

import pytest

from loadgen.bench.inputs import Inputs, written
from loadgen.bench.profile import KINDS, OTHER, kind_of, profile
from loadgen.bench.works import compared
from streamflow.engine.source import SourceDecoder
from streamflow.topics.codec import decode

EVENTS = 50_000


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return written(tmp_path_factory.mktemp("bench"), EVENTS)


@pytest.mark.parametrize("work", compared())
def test_profile_finds_each_kind_of_work(inputs: Inputs, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_MAX_THREADS", os.environ.get("POLARS_MAX_THREADS", "1"))
    seconds, shares = profile(work, inputs)
    found = {share.kind: share.ns_per_event for share in shares}
    everywhere = set(KINDS) - {"decode JSON", "wait", "imports"}

    assert all(found[kind] > 0 for kind in everywhere)
    # Partial aggregates cross the shuffle as Arrow in every work.
    assert found["decode JSON"] > 50 if work.endswith("json") else found["decode JSON"] < found["decode Arrow"]
    assert sum(found.values()) * EVENTS / 1e9 == pytest.approx(seconds, rel=0.3)
    assert [share.ns_per_event for share in shares] == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("<method 'decode_lines' of 'msgspec.json.Decoder' objects>", "decode JSON"),
        (SourceDecoder.decode.__code__, "decode JSON"),
        ("<built-in method read_ipc_stream>", "decode Arrow"),
        (
            "<method 'collect' of 'builtins.PyLazyFrame' objects>",
            "queries: filter, map, window, aggregate",
        ),
        ("<method 'execute' of 'sqlite3.Connection' objects>", "index, commit and fsync"),
        ("<built-in method posix.fdatasync>", "index, commit and fsync"),
        ("<method 'acquire' of '_thread.lock' objects>", "wait"),
        (decode.__code__, OTHER),
    ],
)
def test_functions_are_of_the_kind_that_their_name_tells(function: CodeType | str, kind: str) -> None:
    assert kind_of(function) == kind
