"""Other systems, each measured in its best idiom: a module for each, which the harness imports and calls.

`WORKS: tuple[str, ...]`                          the works that it can do
`prepare(home: Path) -> None`                     installs it under `home`, nothing where that is done; StreamFlowError
`command(home: Path, job: Path, cores: int) -> list[str]`  what to execute; the program reads the JSON file `job`

A job has work, events, ndjson, campaigns (CSV with a header: ad_id, campaign_id), answer, told, scratch (an empty folder), cores.
The program writes `answer`, a CSV file without a header or a folder of `part-*` files, columns as in `reference.py`,
and `told`: {"seconds_inner"}, the time of the work without the start of the processes and imports.
"""
