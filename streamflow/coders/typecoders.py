"""Apache Beam's module of this name: which coder belongs to which type."""

from streamflow.model.coder_registry import CoderRegistry, registry

__all__ = ["CoderRegistry", "registry"]
