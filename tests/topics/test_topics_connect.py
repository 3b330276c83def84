"""What each URL opens."""

from pathlib import Path

import pytest

from streamflow.base.clock import ManualClock
from streamflow.base.errors import NotFoundError, PipelineError
from streamflow.topics import open_log
from streamflow.topics.embedded import EmbeddedLog


def test_named_memory_log_is_shared_and_the_nameless_one_private() -> None:
    open_log("memory://shared").create_topic("t")
    assert open_log("memory://shared").topic("t").name == "t"
    open_log("memory://").create_topic("t")
    assert open_log("memory://").topics() == []
    assert open_log("memory://other").topics() == []


def test_paths_and_file_urls_open_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "a b"
    first = open_log(folder)
    first.create_topic("t")
    for url in (str(folder), f"file:{folder}", f"file://{folder}", first.url):
        log = open_log(url)
        assert isinstance(log, EmbeddedLog)
        assert log.topic("t").name == "t"
        assert log.url == first.url
        log.close()
    first.close()


def test_relative_paths_are_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("data", "./da:ta", "file:data2"):
        open_log(url).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["da:ta", "data", "data2"]


def test_clock_decides_publication_times(tmp_path: Path) -> None:
    for url in ("memory://", tmp_path):
        log = open_log(url, clock=ManualClock(42))
        log.create_topic("t")
        assert log.backlog("t", 0, 0).oldest_age_s == 0
        log.close()


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [("kafka://localhost:9092", PipelineError, "no log of this machine"), ("s3://bucket", NotFoundError, "'s3'")],
)
def test_other_schemes_are_refused(url: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        open_log(url)
