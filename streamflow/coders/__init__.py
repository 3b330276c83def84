"""Apache Beam's package of this name; no code lives here."""

from streamflow.coders import typecoders
from streamflow.coders.coders import *  # noqa: F403 - it says what it exports
from streamflow.coders.coders import __all__ as _coders
from streamflow.coders.typecoders import registry

__all__ = [*_coders, "registry", "typecoders"]
