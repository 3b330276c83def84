"""Where what fails goes, by Apache Beam's names: `with ErrorHandler(consumer) as handler: pcoll |
Map(fn).with_error_handler(handler)`."""

from types import TracebackType
from typing import Any, Self

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.transforms.collections import Flatten
from streamflow.transforms.elementwise import Map

__all__ = ["CollectingErrorHandler", "ErrorHandler"]


class ErrorHandler:
    """Collects the failed elements of the transforms that are given it, and applies `consumer` to all of them at the
    end of the `with`. A pipeline with a handler that was never closed is refused."""

    def __init__(self, consumer: PTransform) -> None:
        self._consumer = consumer
        self._errors: list[PCollection] = []
        self._closed = False
        self._output: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def add_error_pcollection(self, pcoll: PCollection) -> None:
        """For transforms with a `with_error_handler` of their own."""
        pcoll.pipeline.checks.append(self.verify_closed)
        self._errors.append(pcoll)

    def close(self) -> None:
        """No more errors come: apply the consumer."""
        if self._errors:
            self._output = (
                tuple(self._errors) | f"Errors of {self._errors[0].producer.label}" >> Flatten() | self._consumer
            )
        self._closed = True

    def output(self) -> Any:
        """What the consumer gave. PipelineError before the end of the `with`."""
        if not self._closed:
            raise PipelineError("the output of an error handler is there once it is closed: after its `with`.")
        return self._output

    def verify_closed(self) -> None:
        if not self._closed:
            raise PipelineError("Unclosed error handler: use it as `with ErrorHandler(…) as handler:`.")


class CollectingErrorHandler(ErrorHandler):
    """Only collects: the errors are to be had by `output()`, which must be called."""

    def __init__(self) -> None:
        super().__init__(Map(lambda error: error))
        self._asked = False

    def output(self) -> Any:
        self._asked = True
        return super().output()

    def verify_closed(self) -> None:
        if not self._asked:
            raise PipelineError("CollectingErrorHandler requires the output to be retrieved: call its output().")
        super().verify_closed()
