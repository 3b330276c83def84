"""Apache Beam's module of this name."""

from streamflow.transforms.batching import ShardedKey

__all__ = ["ShardedKey"]
