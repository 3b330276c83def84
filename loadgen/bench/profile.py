"""Where the time goes per event: one worker in this process under the profiler, its seconds sorted into a few kinds.

The profiler adds its own cost to every Python call, little on the columnar path; sums are of a function's own time.
"""

import cProfile
import os
import pstats
import secrets
import shutil
import time
from dataclasses import dataclass

from loadgen.bench.inputs import Inputs

KINDS: dict[str, tuple[str, ...]] = {
    "read bytes and check them": ("pread", "crc32", "segments.py"),
    "decode Arrow": ("read_ipc_stream", "codec.py"),
    "decode JSON": ("decode_lines", "source.py", "'join' of 'bytes'", "new_str", "new_opt_i64", "to_list"),
    "queries: filter, map, window, partial and final aggregate": ("'collect' of", "concat_df"),
    "encode Arrow": ("write_ipc_stream", "getvalue", "getbuffer"),
    "index, commit and fsync": ("sqlite3", "fdatasync", "fsync", "write_transaction", "posix.write", "pwrite"),
    "wait": ("time.sleep", "acquire"),
}
OTHER = "Python around it"


@dataclass(frozen=True)
class Share:
    """Nanoseconds per event of one kind of work."""

    kind: str
    ns_per_event: float


def profile(work: str, inputs: Inputs) -> tuple[float, list[Share]]:
    """Seconds of the work with one worker, and how they divide, the largest first."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    from loadgen.bench.streamflow_runner import log_folder, of_work, publish
    from streamflow.engine.stores import tables_folder
    from streamflow.topics import connect

    publish(inputs)
    folder = log_folder(inputs)
    run = f"profile-{secrets.token_hex(4)}"
    pipeline = of_work(work, run, inputs.seed)
    log = connect(folder)
    profiler = cProfile.Profile()
    began_s = time.perf_counter()
    profiler.runcall(pipeline.run, on=log, data=folder)
    seconds = time.perf_counter() - began_s
    log.reset_pipeline(run)
    log.close()
    shutil.rmtree(tables_folder(folder) / run)
    return seconds, _shares(pstats.Stats(profiler), inputs.events)


def _shares(stats: pstats.Stats, events: int) -> list[Share]:
    sums = dict.fromkeys([*KINDS, OTHER], 0.0)
    profile = stats.get_stats_profile()
    for name, function in profile.func_profiles.items():
        place = f"{function.file_name}:{name}"
        kind = next((kind for kind, marks in KINDS.items() if any(mark in place for mark in marks)), OTHER)
        sums[kind] += function.tottime
    return sorted((Share(k, s * 1e9 / events) for k, s in sums.items()), key=lambda share: -share.ns_per_event)
