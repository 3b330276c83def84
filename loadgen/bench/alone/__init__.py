"""Works that measure StreamFlow alone, or beside clients in our own environment: one module each, named in
`works.py`, with

- `RUNNERS`: what runs in the measured process (see `job.py`);
- `prepare(job)`: called before it, in the harness, and not measured;
- `verified(job, told)`: called after it, in the harness: whether what it left is right. It may add
  to `told`, which becomes part of the run.

A job's data is below its `scratch`, in `data`, unless the work reads the topics of the inputs.
"""
