"""What can be known of the peers on the JVM without installing them."""

from pathlib import Path

import pytest

from loadgen.bench.peers import flink, spark
from loadgen.jvm import installed, once, program
from streamflow.base.errors import NotFoundError, StreamFlowError


@pytest.mark.parametrize("program", [flink.PROGRAM / "pom.xml", spark.PROGRAM])
def test_programs_are_part_of_the_package(program: Path) -> None:
    assert program.is_file()


@pytest.mark.parametrize("peer", [flink, spark])
def test_program_knows_each_work_of_its_peer(peer) -> None:
    sources = [peer.PROGRAM] if peer.PROGRAM.is_file() else list(peer.PROGRAM.rglob("*.java"))
    text = "".join(source.read_text() for source in sources)
    assert all(f'"{work}"' in text for work in peer.WORKS)


@pytest.mark.parametrize("peer", [flink, spark])
def test_command_has_absolute_paths_and_ends_with_the_job(peer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    command = peer.command(Path("home"), Path("job.json"), 2)
    assert command[-1] == str(tmp_path / "job.json")
    assert Path(command[0]).is_absolute()
    assert any(str(tmp_path / "home") in word for word in command)


def test_a_recipe_is_installed_once_and_again_when_it_changes(tmp_path: Path) -> None:
    home, homes = tmp_path / "home", []
    for recipe in ("first", "first", "second"):
        once(home, recipe, homes.append)
    assert homes == [home, home]


def test_a_failed_installation_is_not_taken_for_done(tmp_path: Path) -> None:
    with pytest.raises(StreamFlowError, match="exit code 3"):
        once(tmp_path / "home", "recipe", lambda home: installed(["sh", "-c", "exit 3"], home))
    homes: list[Path] = []
    once(tmp_path / "home", "recipe", homes.append)
    assert homes


def test_failed_command_is_told_with_its_last_output(tmp_path: Path) -> None:
    with pytest.raises(StreamFlowError, match="no such jar"):
        installed(["sh", "-c", "echo no such jar >&2; exit 1"], tmp_path)


def test_missing_program_is_told_with_its_package(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotFoundError, match="apt install maven"):
        program("mvn", "maven")
