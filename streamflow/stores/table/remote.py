"""A writer's side of the Delta library: asks for one thing at a time, and gets facts. Loads no part of the library."""

import subprocess
import sys
from pathlib import Path

import msgspec

from streamflow.base.errors import CorruptionError, StreamFlowError

_LIBRARY = Path(__file__).with_name("library.py")


class Facts(msgspec.Struct, frozen=True):
    """A Delta table at a version. `schema`: Delta's JSON. `end`: the app transaction's version, 0 without one."""

    version: int
    schema: str
    partition_by: tuple[str, ...]
    configuration: dict[str, str]
    reader_features: frozenset[str]
    min_writer_version: int
    end: int = 0


def ask(folder: Path, do: str, **values: object) -> Facts | None:
    """What the table in `folder` is after `do` (`look`, `create`, `add_columns` or `checkpoint`: library.py tells what
    they take); None if there is none. Takes a tenth of a second. CorruptionError if the table's log can't be read,
    StreamFlowError with the library's last line if it fails otherwise."""
    done = subprocess.run(
        # -P: or modules of this folder could be taken for others.
        [sys.executable, "-P", str(_LIBRARY)],
        input=msgspec.json.encode({"do": do, "folder": str(folder.absolute()), **values}),
        capture_output=True,
        check=False,
        # Ctrl-C is for the caller, who finishes its step.
        process_group=0,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StreamFlowError(
            f"table '{folder.name}': the Delta library's process ended with {done.returncode} on '{do}': {last}. "
            "Look for what the machine ran out of, or at the table's folder"
        )
    answer = msgspec.json.decode(done.stdout)
    if answer is not None and "unreadable" in answer:
        raise unreadable(folder.name, answer["unreadable"])
    return msgspec.convert(answer, Facts | None)


def unreadable(name: str, why: object) -> CorruptionError:
    return CorruptionError(f"table '{name}' can't be opened: {why}. Check its folder '_delta_log'")
