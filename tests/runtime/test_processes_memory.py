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
