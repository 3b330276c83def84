"""Apache Beam's package of this name. A pipeline runs in the process that calls `run`, or by `streamflow run`; a runner
given to it only says so."""


class DirectRunner:
    """Where a pipeline runs anyway: in this process."""


__all__ = ["DirectRunner"]
