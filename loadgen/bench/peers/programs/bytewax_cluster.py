"""Several processes for one Bytewax dataflow: `python bytewax_cluster.py PROCESSES PROGRAM JOB`. Linux only.

Every process is `python PROGRAM JOB INDEX ADDRESS...`; `member` there says where it belongs. They import at the same
time, so that start-up takes no longer than that of one. The first process that fails ends the others.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""
POLL_S = 0.002
WAIT_S_MAX = 60.0
"""Imports take a second at most, on a machine that is busy too."""


def main() -> None:
    processes, program, job = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    addresses = _free_addresses(processes)
    running = {
        process.pid: process
        for process in (
            subprocess.Popen([sys.executable, program, job, str(index), *addresses]) for index in range(processes)
        )
    }
    while running:
        pid, status = os.wait()
        del running[pid]
        if exit_code := os.waitstatus_to_exitcode(status):
            for other in running.values():
                other.kill()
            raise SystemExit(f"a process of the dataflow ended with {exit_code}")


def member(arguments: list[str]) -> tuple[int, list[str]]:
    """(index, addresses) from the arguments behind JOB; without any, one process that needs no address.

    Returns once the first process listens: Bytewax tries to connect only once a second.
    """
    if not arguments:
        return 0, []
    index, addresses = int(arguments[0]), arguments[1:]
    deadline = time.monotonic() + WAIT_S_MAX
    while index and not _listens(addresses[0]):
        if time.monotonic() > deadline:
            raise SystemExit(f"the first process does not listen at {addresses[0]} after {WAIT_S_MAX:.0f} s")
        time.sleep(POLL_S)
    return index, addresses


def _listens(address: str) -> bool:
    """By the kernel's table: a connection made to find out would be taken for another process."""
    local = f":{int(address.rpartition(':')[2]):04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(local) and row[3] == LISTENING for row in rows)


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{open_socket.getsockname()[1]}" for open_socket in sockets]
    for open_socket in sockets:
        open_socket.close()
    return addresses


if __name__ == "__main__":
    main()
