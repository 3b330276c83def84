"""Other systems, each measured in an environment of its own and in its own best idiom.

A module has `WORKS`, the works that it can do; `prepare(home)`, which installs what is needed into that folder, once,
and raises StreamFlowError with a hint if it can't; and `command(home, job, cores)`, the command that does the job of
that JSON file. What runs inside the environment stands in `programs/` and imports nothing from here.

A program writes the answer as CSV without a header, to one file or to `part-*` files in a folder, and to `told` the
seconds from the submission of the job until its results are complete in files: processes and sessions are there before.
"""
