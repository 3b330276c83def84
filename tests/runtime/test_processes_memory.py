"""What a process keeps of the memory it frees."""

import subprocess
import sys

FAULTS = """
import resource
from streamflow.runtime.processes import give_back_memory, keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def block():
    bytes(bytearray(b"x") * (8 << 20))
block()
before = faults()
for _ in range(20):
    block()
kept = faults() - before
give_back_memory()
before = faults()
block()
print(kept, faults() - before)
"""


def test_freed_blocks_are_used_again_until_they_are_given_back() -> None:
    """A block of 8 MiB has 2,048 pages."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, after_giving_back = map(int, done.stdout.split())
    assert kept < 200
    assert after_giving_back > 1_000


PAGES = """
import polars as pl
from streamflow.runtime.processes import give_back_memory
def resident_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssFile:"))
def answer():
    return pl.DataFrame({"a": [3, 1, 2]}).lazy().sort("a").select(pl.col("a").cum_sum()).collect()["a"].to_list()
before, kb = answer(), resident_kb()
give_back_memory()
print(kb, resident_kb(), answer() == before == [1, 3, 6])
"""


def test_pages_of_libraries_are_given_back_and_come_again_when_they_are_needed() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    before_kb, after_kb, works = done.stdout.split()
    assert int(after_kb) < int(before_kb) / 2
    assert works == "True"
