"""The systems that can be measured: `Ours`, which run in our own environment, and peers, each in one of its own.

To add a peer: a module beside those in `peers/` (see `Peer`), and its name in
`works.PEERS`.
"""

import importlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import polars as pl

from loadgen.bench.inputs import Inputs
from loadgen.bench.works import PEERS, compared
from streamflow.base.errors import DataError


class System(Protocol):
    @property
    def works(self) -> Collection[str]:
        """Names of the works that it can do."""

    def prepare(self, inputs: Inputs, home: Path) -> None:
        """Called once per input and not measured: what must be there before, such as events in a topic or programs in
        `home`, a folder of the system's own. Does nothing where that is done already."""

    def command(self, job: Path, home: Path, cores: int) -> list[str]:
        """The command that does the job."""

    def answer(self, path: Path, columns: pl.Schema) -> pl.DataFrame:
        """What the job wrote, with the columns of the reference."""


@dataclass(frozen=True)
class Ours:
    """`module` has `RUNNERS`: system → work → `Runner`, and is imported in the measured process only."""

    module: str
    works: Collection[str]
    prepared: Callable[[Inputs], None] = lambda inputs: None
    read: Callable[[Path], pl.DataFrame] = pl.read_parquet

    def prepare(self, inputs: Inputs, home: Path) -> None:
        self.prepared(inputs)

    def command(self, job: Path, home: Path, cores: int) -> list[str]:
        return [sys.executable, "-m", "loadgen.bench.child", self.module, str(job)]

    def answer(self, path: Path, columns: pl.Schema) -> pl.DataFrame:
        return self.read(path)


@dataclass(frozen=True)
class Peer:
    """A module of `loadgen/bench/peers/`, imported when it is asked for, with

    - `WORKS: tuple[str, ...]`;
    - `prepare(home)`: install what is needed into that folder, once;
    - `command(home, job, cores)`: what does the job of that file, with an answer as CSV without a header: one file, or
      a folder with `part-*` files anywhere below. Columns are in the reference's order.
    """

    name: str

    @property
    def works(self) -> Collection[str]:
        works: Collection[str] = self._module().WORKS
        return works

    def prepare(self, inputs: Inputs, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._module().prepare(home)

    def command(self, job: Path, home: Path, cores: int) -> list[str]:
        command: list[str] = self._module().command(home, job, cores)
        return command

    def answer(self, path: Path, columns: pl.Schema) -> pl.DataFrame:
        files = [path] if path.is_file() else sorted(path.rglob("part-*"))
        parts = [pl.read_csv(file, has_header=False, schema=columns) for file in files if file.stat().st_size]
        return pl.concat(parts) if parts else pl.DataFrame(schema=columns)

    def _module(self) -> ModuleType:
        module = f"loadgen.bench.peers.{self.name.replace('-', '_')}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise
            raise DataError(f"system '{self.name}' is not part of this build. Leave it out of --systems") from error


def _publish(inputs: Inputs) -> None:
    from loadgen.bench import streamflow_runner

    streamflow_runner.publish(inputs)


def _table(path: Path) -> pl.DataFrame:
    from loadgen.bench import streamflow_runner

    return streamflow_runner.read_table(path)


_BATCH = "loadgen.bench.reference"
SYSTEMS: dict[str, System] = {
    "streamflow": Ours("loadgen.bench.streamflow_runner", compared(), _publish, _table),
    "duckdb": Ours(_BATCH, compared()),
    "polars": Ours(_BATCH, compared()),
    **{name: Peer(name) for name in PEERS},
}
