"""The measured process: `python -m loadgen.bench.child MODULE JOB`. Does one job and says how long it took."""

import os
import sys
import time


def main() -> None:
    """MODULE has `RUNNERS`: system → work → runner; JOB is the file of a `Job`."""
    import importlib
    import json
    from pathlib import Path

    from loadgen.bench.job import JOB_VARIABLE, Job

    module, path = sys.argv[1:]
    os.environ[JOB_VARIABLE] = path
    job = Job.read(Path(path))
    runner = importlib.import_module(module).RUNNERS[job.system][job.work]
    start_s = time.perf_counter()
    told = runner(job)
    Path(job.told).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s, **(told or {})}))


if __name__ == "__main__":
    main()
