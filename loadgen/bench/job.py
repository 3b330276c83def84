"""What a measured process is given, as a JSON file: the contract between the harness and every system.

Importing this must stay cheap: what a measured process imports counts as its start-up.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadgen.bench.inputs import Inputs

JOB_VARIABLE = "STREAMFLOW_BENCH_JOB"
"""Environment variable with the path of the job's file: how worker processes know what they work for."""


@dataclass(frozen=True)
class Job:
    """One system on one work, once; all paths are absolute.

    `folder`, `events`, `seed`: the inputs, of which `ndjson` and `campaigns` (CSV with the header ad_id,campaign_id)
    are files. `answer`: where the answer goes, in the form that the system's side of the harness reads. `told`: where
    the process writes what it measured, a JSON object with at least `seconds_inner`. `scratch`: an empty folder, gone
    after the run. `parameters`: of works that measure one thing at several sizes.
    """

    work: str
    system: str
    folder: str
    events: int
    seed: int
    cores: int
    ndjson: str
    campaigns: str
    answer: str
    told: str
    scratch: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def make(
        cls, work: str, system: str, inputs: Inputs, cores: int, scratch: Path, parameters: Mapping[str, float]
    ) -> "Job":
        """A job whose own files are in `scratch`, an existing folder."""
        room = scratch / "scratch"
        room.mkdir()
        return cls(
            work,
            system,
            str(inputs.folder.resolve()),
            inputs.events,
            inputs.seed,
            cores,
            str(inputs.ndjson.resolve()),
            str(inputs.campaigns.resolve()),
            str(scratch / "answer"),
            str(scratch / "told.json"),
            str(room),
            parameters,
        )

    @classmethod
    def read(cls, path: Path) -> "Job":
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def current(cls) -> "Job":
        """The one that this process, or the one that started it, was given."""
        return cls.read(Path(os.environ[JOB_VARIABLE]))

    @property
    def name(self) -> str:
        """Another one each time; can be the name of a pipeline or a table."""
        return f"{self.work}-{Path(self.scratch).parent.name}"

    @property
    def data(self) -> Path:
        """Where a work that brings its own topics keeps them."""
        return Path(self.scratch) / "data"

    @property
    def inputs(self) -> Inputs:
        return Inputs(Path(self.folder), self.events, self.seed)


Runner = Callable[[Job], Mapping[str, Any] | None]
"""Does a job. What it returns goes to `told`, over the harness's own figures of the same names."""
