"""The input files of the benchmarks: the advertisement events as NDJSON and as Parquet. Written once, then reused."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loadgen.dataset import BLOCK_EVENTS, to_json
from loadgen.profiles import ads

WINDOW_US = 10_000_000
"""Size of the tumbling windows of every work."""
_PARQUET_EVENTS = 20 * BLOCK_EVENTS


@dataclass(frozen=True)
class Inputs:
    """Where the first `events` events of `seed` are. `folder` holds nothing else than one set of inputs."""

    folder: Path
    events: int
    seed: int = 0

    @property
    def ndjson(self) -> Path:
        return self.folder / "ads.ndjson"

    @property
    def parquet(self) -> str:
        """A glob: one file per million events."""
        return str(self.folder / "ads-*.parquet")

    @property
    def campaigns(self) -> Path:
        """CSV with the header ad_id,campaign_id."""
        return self.folder / "campaigns.csv"


def folder_of(work_folder: Path, events: int, seed: int) -> Path:
    """Where the inputs of this shape are, under `work_folder`."""
    return work_folder / f"ads-{events}-{seed}"


def written(work_folder: Path, events: int, seed: int = 0) -> Inputs:
    """The inputs under `work_folder`, written if they are not there whole."""
    inputs = Inputs(folder_of(work_folder, events, seed), events, seed)
    if not inputs.folder.exists():
        partial = inputs.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(Inputs(partial, events, seed))
        partial.rename(inputs.folder)
    pairs = list(ads.campaigns(seed).items())
    pl.DataFrame(pairs, schema=["ad_id", "campaign_id"], orient="row").write_csv(inputs.campaigns)
    return inputs


def _write(inputs: Inputs) -> None:
    with inputs.ndjson.open("wb") as lines:
        for part, frame in enumerate(ads.batches(inputs.events, inputs.seed, _PARQUET_EVENTS)):
            frame.write_parquet(inputs.folder / f"ads-{part:05}.parquet")
            for block in frame.iter_slices(BLOCK_EVENTS):
                lines.write(b"\n".join(to_json(block)) + b"\n")
