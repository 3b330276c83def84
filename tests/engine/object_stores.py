"""A pipeline from a topic to objects in a store, and what it has written. Run as a program, for tests that kill it, it
works on a log in a folder until the topic has been read to its end:

    object_stores.py FOLDER PREFIX
"""

import sys
from typing import Any

import fsspec
import polars as pl

import streamflow as sf
from streamflow import io

NAME = "p"
SETTINGS = sf.Settings(step_events_max=5, commit_events_max=1, sink_interval_s=0.0)


def pipeline(prefix: str) -> sf.Pipeline:
    p = sf.Pipeline(NAME, settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema={"n": int}, bounded=True)
    events | "Rows" >> io.WriteToParquet(f"{prefix}/rows")
    events | sf.Map(lambda row: row["n"]) | "Text" >> io.WriteToText(f"{prefix}/text", ".txt.gz")
    return p


def written(prefix: str) -> dict[str, list[int]]:
    """Of each sink all rows, in the order of the names."""
    system, inner = fsspec.core.url_to_fs(prefix)
    system.invalidate_cache()
    found: dict[str, list[Any]] = {"rows": [], "text": []}
    for path in sorted(system.find(inner)):
        with system.open(path, "rb", compression="gzip" if path.endswith(".gz") else None) as file:
            kind = path.rsplit("/", 1)[-1][:4]
            found[kind] += (
                pl.read_parquet(file.read())["n"].to_list() if kind == "rows" else map(int, file.read().split())
            )
    return found


if __name__ == "__main__":
    folder, prefix = sys.argv[1:]
    pipeline(prefix).run(on=folder)
