"""The queries of the Nexmark benchmark over an auction house: one module for each, with its definition, its `pipeline`
and the same question in SQL, as DuckDB answers it over all events at once.

    python -m streamflow.examples.nexmark q5 --events 200000

publishes events with loadgen, runs a query on them and compares. Step by step:

    loadgen nexmark --to data --events 1000000 --format envelope
    streamflow run streamflow.examples.nexmark.q5 --data data --workers 2 --until finished
    streamflow sql --data data "select * from nexmark_q5 limit 10"

The definitions are those of the suites of Apache Beam and Apache Flink; where these differ, the module says which one
it follows. Each kind of event has its topic: `person`, `auction` and `bid`.
"""
