"""For users' tests: assertions about PCollections, pipelines that run in the test, inputs and clocks that a test moves.
Nothing of the engine may import it."""

from streamflow.base.clock import ManualClock
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.test_stream import TestStream

__all__ = ["ManualClock", "TestPipeline", "TestStream"]
