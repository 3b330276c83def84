"""The peers in Python, as far as they can be tested without being installed."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.bench.peers import bytewax, bytewax_rows, pathway, venv
from streamflow.base.errors import StreamFlowError

PROGRAMS = sorted(venv.PROGRAMS.glob("*.py"))


def _program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, venv.PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("peer", [bytewax, bytewax_rows, pathway])
def test_a_command_is_the_peers_own_python_with_programs_that_exist(peer: Any, cores: int, tmp_path: Path) -> None:
    python, *arguments, job = peer.command(tmp_path, tmp_path / "job.json", cores)
    assert Path(python).is_relative_to(tmp_path)
    assert job == str(tmp_path / "job.json")
    scripts = [Path(argument) for argument in arguments if argument.endswith(".py")]
    assert scripts
    assert all(script in PROGRAMS for script in scripts)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_imports_nothing_of_ours(program: Path) -> None:
    nodes = list(ast.walk(ast.parse(program.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported}.isdisjoint({"", "streamflow", "loadgen"})


@given(lengths=st.lists(st.integers(0, 40), min_size=1), readers=st.integers(1, 3), block=st.integers(1, 100))
def test_every_line_is_in_one_block_of_one_reader(
    lengths: list[int], readers: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [b"x" * length + b"%d\n" % number for number, length in enumerate(lengths)]
    file = tmp_path_factory.mktemp("blocks") / "lines"
    file.write_bytes(b"".join(lines))
    shares = [list(_program("blocks").blocks(str(file), reader, readers, block)) for reader in range(readers)]
    assert sorted(line for share in shares for data in share for line in data.splitlines(True)) == sorted(lines)


def test_pathways_updates_are_complete_when_they_add_up_to_all_events_and_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _program("pathway_job")
    monkeypatch.setattr(program, "QUIET_S", -1.0)
    updates = tmp_path / "updates.csv"
    updates.write_text('"campaign_id","window_start_us","views","time","diff"\n"a","0","3","2","1"\n')
    counted = program.Counted(updates, 5)
    assert not counted.complete()
    with updates.open("a") as file:
        file.write('"a","0","3","4","-1"\n"a","0","5","4","1')
    assert not counted.complete()
    with updates.open("a") as file:
        file.write('"\n')
    assert counted.complete()
    monkeypatch.setattr(program, "QUIET_S", 3600.0)
    assert not counted.complete()


def test_pathways_pieces_are_the_file_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program("pathway_job")
    monkeypatch.setattr(program, "PIECE_BYTES", 50)
    lines = [b'{"event_type":"%s","n":%d}\n' % (kind, n) for n in range(20) for kind in (b"view", b"click")]
    (tmp_path / "all").write_bytes(b"".join(lines))
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    assert program.split(tmp_path / "all", pieces) == (40, 20)
    assert b"".join(piece.read_bytes() for piece in sorted(pieces.iterdir())) == b"".join(lines)
    assert len(list(pieces.iterdir())) > 10


def test_an_environment_is_made_once_for_its_requirements(tmp_path: Path) -> None:
    venv.installed(tmp_path, ["pip"])
    made = venv.interpreter(tmp_path).lstat().st_ino
    venv.installed(tmp_path, ["pip"])
    assert venv.interpreter(tmp_path).lstat().st_ino == made


def test_what_pip_cannot_install_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StreamFlowError, match=r"(?s)'\./missing'.*leave this system out"):
        venv.installed(tmp_path, ["./missing"])
    assert not (tmp_path / "venv" / "requirements.txt").exists()
