"""Processes of this machine: whether one is alive, and whether it is still the same one. Reads /proc."""

from streamflow.topics.protocol import WorkerInfo


def started_at(pid: int) -> float:
    """When the process was started, in clock ticks since boot; 0.0 if there is none (a zombie counts as none)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The command may hold spaces and brackets; what follows its last ')' is plain.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 0.0 if fields[0] in (b"Z", b"X") else float(fields[19])


def is_alive(worker: WorkerInfo) -> bool:
    """The very process that joined is still there."""
    return started_at(worker.pid) == worker.process_started and worker.process_started > 0
