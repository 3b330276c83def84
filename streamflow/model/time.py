"""Event time: integer microseconds, UTC, inside the engine; `Timestamp` and `Duration` for users, as in Apache Beam."""

from datetime import UTC, datetime, timedelta
from typing import SupportsFloat, Union

MIN_US = -(1 << 62)
MAX_US = 1 << 62
