"""What an operator is: something that runs on batches, and hands on what becomes of them."""

from collections.abc import Sequence
from typing import Protocol

from streamflow.engine.context import StepContext
from streamflow.model.batch import Batch


class Operator(Protocol):
    def run(self, batch: Batch, context: StepContext) -> None: ...

    def close(self) -> None: ...


class Inner:
    """An operator with children."""

    def __init__(self, label: str, children: Sequence[Operator]) -> None:
        self.label, self.children = label, children

    def hand_on(self, batch: Batch, context: StepContext) -> None:
        if len(batch):
            for child in self.children:
                child.run(batch, context)

    def close(self) -> None:
        for child in self.children:
            child.close()
