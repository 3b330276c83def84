"""Apache Beam's module of this name; see `streamflow.coders`."""

from streamflow.coders import *  # noqa: F403 - the same names, where Beam's users import them from too
