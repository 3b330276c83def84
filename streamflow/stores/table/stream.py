"""The hand-over of a query's result to Polars. This module must not import DuckDB.

Polars keeps the class of every Arrow object it is given until the process ends, and with the class all that its module
refers to. Were that DuckDB, its extension would complain about leaked objects at every exit.
"""


class ArrowStream:
    """A one-time Arrow stream, given as the capsule of the Arrow PyCapsule interface."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._capsule
