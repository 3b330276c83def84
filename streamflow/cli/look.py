"""Commands that only look: pipelines, tables, rows. They work on a folder that may only be read, too."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from streamflow.base.errors import NotFoundError
from streamflow.cli.folders import live_workers, opened, stores_in
from streamflow.cli.options import Data, Json
from streamflow.cli.output import iso_time, print_frame, print_json, print_table, say, time_text, told_errors
from streamflow.cli.progress import pipeline_watermark
from streamflow.engine.stores import rows_folder, tables_folder
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.hints import command
from streamflow.runtime.holders import source_holder
from streamflow.runtime.outline import Outline, read_outline, waiting_in
from streamflow.runtime.pipeline import result_of
from streamflow.topics.protocol import Snapshot

app = typer.Typer()


@app.command(epilog="Example:\n\n`streamflow status --data demo-data`")
def status(data: Data, json: Json = False) -> None:
    """Every pipeline of a folder: workers at work, backlog, watermark and the topic/partition that holds it back, and
    what all its runs have counted."""
    with told_errors(), opened(data) as log:
        rows = [_status(name, log.snapshot(name), read_outline(log, name)) for name in log.pipelines()]
        if json:
            print_json([{name: value for name, value in row.items() if name != "shown"} for row in rows])
        elif not rows:
            say(f"no pipeline has run in '{data}' yet")
        else:
            rows = [row | {"watermark": row["shown"]} for row in rows]
            names = [name for name in rows[0] if name not in ("ended", "shown")]
            print_table(names, [[row[name] for name in names] for row in rows])


@app.command(
    epilog="Examples:\n\n"
    '`streamflow sql --data demo-data "select origin, sum(flights) as n from flights_hourly group by origin"`\n\n'
    "`streamflow sql --data demo-data --json \"select count(*) as n from flights_hourly where month = '2013-07'\"`\n\n"
    "`streamflow sql --data demo-data` lists the tables"
)
def sql(
    query: Annotated[str | None, typer.Argument(help="A SELECT.")] = None, *, data: Data, json: Json = False
) -> None:
    """Query the tables with SQL (DuckDB's). Keyed tables show the newest row of each key."""
    with told_errors():
        # Here, not above: the stores' libraries would be loaded by every worker, which is started by this command too.
        from streamflow.stores.table import Catalog

        catalog = Catalog(stores_in(data, tables_folder))
        if query is not None:
            print_frame(catalog.sql(query), as_json=json)
            return
        tables = [
            {"name": t.name, "stored_rows": t.rows, "files": t.files, "bytes": t.bytes, "version": t.version}
            for t in catalog.tables()
        ]
        if tables or json:
            print_frame(pl.DataFrame(tables), as_json=json)
        else:
            say(f"no pipeline has written a table in '{data}' yet")


@app.command(
    epilog="Examples:\n\n"
    "`streamflow row --data demo-data carrier_daily UA#2013-07-04` — one row\n\n"
    "`streamflow row --data demo-data carrier_daily --prefix UA#2013-07 --limit 3` — rows by prefix\n\n"
    "`streamflow row --data demo-data` — lists the stores"
)
def row(
    store: Annotated[str | None, typer.Argument(help="The row store.")] = None,
    key: Annotated[str | None, typer.Argument(help="A row key.")] = None,
    *,
    data: Data,
    prefix: Annotated[str, typer.Option(help="Rows whose key begins so, in key order.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 20,
    json: Json = False,
) -> None:
    """Read wide rows: one by key, or many by key prefix. Cells are the newest of each column."""
    with told_errors():
        from streamflow.stores.widerow import WideRowStore, row_folder, row_stores, rows_as_dicts

        names = row_stores(stores_in(data, rows_folder))
        if store is None:
            _list_stores(data, names, as_json=json)
            return
        if store not in names:
            raise NotFoundError(f"no row store '{store}' in '{data}'. There are: {', '.join(names) or 'none yet'}.")
        with WideRowStore(row_folder(rows_folder(data), store), readonly=True) as found:
            rows = rows_as_dicts(found, prefix.encode(), limit, key=None if key is None else key.encode())
        if key is not None and not rows:
            near = command(f"row {store} --prefix {shlex.quote(key[: (len(key) + 1) // 2])}", data)
            raise NotFoundError(f"no row '{key}' in '{store}'. Look for its neighbours with {near}.")
        if json:
            print_json(rows)
        elif not rows:
            say(f"no row begins with '{prefix}' in '{store}'" if prefix else f"'{store}' has no rows yet")
        else:
            _print_rows(rows)


def _list_stores(data: Path, names: list[str], *, as_json: bool) -> None:
    if names or as_json:
        print_frame(pl.DataFrame({"store": names}, schema={"store": pl.String}), as_json=as_json)
    else:
        say(f"no pipeline has written rows in '{data}' yet")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    cells = [(row["row"], *cell.values()) for row in rows for cell in row["cells"]]
    print_table(["row", "column", "timestamp", "value"], cells)


def _status(name: str, snapshot: Snapshot, outline: Outline) -> dict[str, object]:
    result = result_of(name, snapshot)
    backlog = sum(snapshot.ends[s.topic, t.partition] - s.offset for t, s in snapshot.tasks.items())
    watermark_us = pipeline_watermark(snapshot, waiting_in(outline))
    holder = source_holder(outline, snapshot)
    return {
        "pipeline": name,
        "workers": len(live_workers(snapshot)),
        "backlog_events": backlog,
        "watermark": iso_time(watermark_us) if MIN_US < watermark_us < MAX_US else None,
        "shown": time_text(watermark_us),
        "held_back_by": None if holder is None else f"{holder.topic}/{holder.partition}",
        "ended": watermark_us >= MAX_US,
        **{counter: result.total(counter) for counter in ("late", "dropped", "dead_lettered")},
    }
