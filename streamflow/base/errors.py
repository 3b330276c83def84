"""Every exception that StreamFlow raises on purpose, and what the caller does about it.

StreamFlowError
├── PipelineError         fix your code: the pipeline can't work, refused when it is built
│   └── TypeCheckError    the same, of the types that were said of elements
├── FilterError           fix the filter of the subscription; the message shows the place
├── DataError             fix your data: an event or row does not fit what was declared
├── NotFoundError         fix the name: no such topic, table, row store or pipeline
├── ConflictError         fix the request: it contradicts what exists (partition count, pipeline shape)
├── FlowControlError      slow down: more is outstanding than you allowed; try again later
├── NoSpaceError          free space on the disk: pipelines wait for it, and go on by themselves
├── FencedError           do nothing: another owner has taken over; drop the work, it is done elsewhere
├── StepCancelledError    do nothing: the worker stops in the middle of a step; whoever is next repeats it
├── AssertionFailedError  fix your code, or what the test expects: `assert_that` found something else
│   └── SimulationFailed  fix your code: its result depends on batches, order or crashes (`simulate`)
└── CorruptionError       report a bug: committed bytes fail their checksum
"""


class StreamFlowError(Exception):
    """Base of all; the message says what happened, then a hint."""


class PipelineError(StreamFlowError, ValueError, TypeError, RuntimeError):
    """The pipeline can't work as it is written. A ValueError, TypeError and RuntimeError too: one of these is what
    Apache Beam raises where it refuses one, which of them depends on the place."""


class TypeCheckError(PipelineError):
    """A transform wants elements of another type than it would get. Apache Beam's users catch it by this name."""


class FilterError(StreamFlowError, ValueError):
    """The text says no filter in Pub/Sub's filter language."""


class DataError(StreamFlowError):
    """An event or row does not fit what was declared."""


class NotFoundError(StreamFlowError):
    """A name that does not exist was used."""


class ConflictError(StreamFlowError):
    """The request contradicts what is already there."""


class FlowControlError(StreamFlowError):
    """A bound on what is outstanding was reached, and you wanted to be told rather than wait."""


class NoSpaceError(StreamFlowError):
    """The disk is full, or what one may use of it. Nothing of what was to be written is there."""


class FencedError(StreamFlowError):
    """A newer owner holds the task; nothing of this attempt was applied."""


class StepCancelledError(StreamFlowError):
    """The worker was told to stop while a step waited; nothing of the step was applied."""


class AssertionFailedError(StreamFlowError, AssertionError):
    """What a test asserts of a PCollection does not hold. It is no bad event: it ends the run, and is raised by it."""


class SimulationFailed(AssertionFailedError):  # noqa: N818 - it says what has happened
    """A simulated run has another result than a quiet one. `seed` replays it; `schedule`: what happened, in words."""

    def __init__(self, message: str, seed: int, schedule: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.seed, self.schedule = seed, schedule


class CorruptionError(StreamFlowError):
    """Committed bytes can't be read back as they were written."""
