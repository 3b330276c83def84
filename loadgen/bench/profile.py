"""Where the time goes per event: one worker in this process under the profiler, its seconds sorted into a few kinds.

The profiler adds its own cost to every Python call, little on the columnar path; sums are of a function's own time, on
the thread that computes. What another thread does meanwhile, a commit for instance, shows as a wait for it, if at all.
"""

import cProfile
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from types import CodeType

from loadgen.bench.inputs import Inputs

KINDS: dict[str, tuple[str, ...]] = {
    "decode JSON": (
        "streamflow_kernel",
        "decode_lines",
        "engine/source.py",
        "'join' of 'bytes'",
        "new_str",
        "new_opt_i64",
        "to_list",
    ),
    "decode Arrow": ("read_ipc_stream",),
    "encode Arrow": ("write_ipc_stream", "getvalue", "getbuffer"),
    "queries: filter, map, window, aggregate": (
        "'collect' of",
        "concat_df",
        "'partition_by' of",
        "'hash_rows' of",
        "'gather",
    ),
    "read bytes and check them": ("pread", "crc32", "xxh3", "mmap", "topics/embedded/segments.py"),
    "index, commit and fsync": (
        "sqlite3",
        "fsync",
        "fdatasync",
        "sync_path",
        "sync_folder",
        "_write_transaction",
        "pwrite",
        "posix.write",
        "deltalake",
    ),
    "wait": ("time.sleep", "'acquire' of", "'poll' of"),
    "imports": ("importlib", "_imp.", "marshal", "builtins.exec", "builtins.compile", "BufferedReader"),
    "put queries together (Polars in Python)": ("site-packages/polars", "PyLazyFrame", "PyDataFrame", "PyExpr"),
}
"""Kind → parts of the names of the functions whose time is of that kind; the first kind that matches counts. Mostly the
libraries' own functions, which stay where they are when ours move."""
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
    from streamflow.topics import open_log

    publish(inputs)
    folder = log_folder(inputs)
    run = f"profile-{secrets.token_hex(4)}"
    pipeline = of_work(work, run, inputs.seed)
    log = open_log(folder)
    profiler = cProfile.Profile()
    began_s = time.perf_counter()
    profiler.runcall(pipeline.run, on=log, data=folder)
    seconds = time.perf_counter() - began_s
    log.reset_pipeline(run)
    log.close()
    shutil.rmtree(tables_folder(folder) / run)
    return seconds, _shares(profiler, inputs.events)


def _shares(profiler: cProfile.Profile, events: int) -> list[Share]:
    sums = dict.fromkeys([*KINDS, OTHER], 0.0)
    for entry in profiler.getstats():
        sums[kind_of(entry.code)] += entry.inlinetime
    return sorted((Share(k, s * 1e9 / events) for k, s in sums.items()), key=lambda share: -share.ns_per_event)


def kind_of(function: CodeType | str) -> str:
    """What a function's own time is for; a built-in one is given as the profiler names it."""
    place = function if isinstance(function, str) else f"{function.co_filename}:{function.co_name}"
    return next((kind for kind, marks in KINDS.items() if any(mark in place for mark in marks)), OTHER)
