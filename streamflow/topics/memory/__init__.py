"""The log in this process's memory, for tests and for bounded jobs that need no second process.

One lock is the transaction; nothing here touches a disk. `store.py` holds the data and its rules, `log.py`
the handle.
"""

from streamflow.topics.memory.log import MemoryLog

__all__ = ["MemoryLog"]
