"""The measured process: `python -m loadgen.bench.child JSON`. Runs one system on one work and says how long it took."""

import os
import sys
import time


def main() -> None:
    """Argument: {system, work, folder, events, seed, cores, answer, told}; writes seconds to the file `told`."""
    import json  # nothing that reads the number of CPUs may be imported before it is set
    from pathlib import Path

    job = json.loads(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])

    from loadgen.bench.inputs import Inputs
    from loadgen.bench.systems import SYSTEMS

    runner = SYSTEMS[job["system"]].works[job["work"]]
    start_s = time.perf_counter()
    runner(Inputs(Path(job["folder"]), job["events"], job["seed"]), Path(job["answer"]), job["cores"])
    Path(job["told"]).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s}))


if __name__ == "__main__":
    main()
