"""For users' tests: assertions about PCollections, pipelines that run in the test, inputs and clocks that a test moves,
and a simulator of what may happen to a pipeline. Nothing of the engine may import it."""

from streamflow.base.clock import ManualClock
from streamflow.base.errors import SimulationFailed
from streamflow.testing.simulation import Simulated, simulate
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.test_stream import TestStream

__all__ = ["ManualClock", "Simulated", "SimulationFailed", "TestPipeline", "TestStream", "simulate"]
