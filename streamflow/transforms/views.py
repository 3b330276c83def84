"""Views: what a side input consists of, one element for each pane of each window."""

from collections.abc import Sequence

from streamflow.base.errors import PipelineError
from streamflow.model.combiner import ListCombineFn
from streamflow.model.graph import PCollection, Shape
from streamflow.transforms.grouping import PerKey


class View(PerKey):
    """All elements of a window as one list: what a side input consists of."""

    keyed = False

    def __init__(self, of: str) -> None:
        super().__init__(ListCombineFn())
        self.of = of

    def default_label(self) -> str:
        return f"View({self.of})"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        windowing = inputs[0].windowing
        if windowing.is_global and not inputs[0].shape.bounded and not windowing.trigger.fires_early:
            raise PipelineError(
                f"{inputs[0]!r} is endless and in the global window, so as a side input it would never be ready. Apply "
                "e.g. WindowInto(FixedWindows(60)) to it before, or a trigger that fires repeatedly."
            )
        return super().output(inputs)


def view_of(pcoll: PCollection) -> PCollection:
    """The PCollection whose elements are the panes of `pcoll` as a side input: lists, or single values if one value is
    all that there is in a window anyway."""
    producer = pcoll.producer.transform
    if isinstance(producer, PerKey) and not producer.keyed:
        return pcoll
    known = (node for node in pcoll.pipeline.consumers(pcoll) if isinstance(node.transform, View))
    if (view := next(known, None)) is not None:
        return view.output
    output: PCollection = pcoll | View(pcoll.producer.label.rsplit("/", 1)[-1])
    return output
