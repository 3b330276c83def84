"""Apache Beam's names at Apache Beam's places, for programs that import them from there. No code lives here."""

from streamflow.utils import sharded_key, shared, timestamp, windowed_value

__all__ = ["sharded_key", "shared", "timestamp", "windowed_value"]
