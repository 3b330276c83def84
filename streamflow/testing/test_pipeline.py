"""TestPipeline: a pipeline for a test, in which nothing fails unseen."""

from typing import Any

from streamflow.base.errors import AssertionFailedError
from streamflow.runtime.pipeline import Pipeline, PipelineResult

__all__ = ["TestPipeline"]


class TestPipeline(Pipeline):
    """A Pipeline whose `run` raises AssertionFailedError if any event failed; elsewhere such events go to a topic, and
    `assert_that` would only miss what became of them.

    `dead_letters_allowed`: for tests of just that; the result has them. Other arguments: see Pipeline; what Beam's
    TestPipeline takes besides is not needed here, and ignored.
    """

    __test__ = False  # it is no test, whatever pytest thinks of its name

    def __init__(
        self,
        runner: Any = None,
        options: Any = None,
        argv: Any = None,
        is_integration_test: bool = False,
        blocking: bool = True,
        *,
        dead_letters_allowed: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dead_letters_allowed = dead_letters_allowed

    def run(self, **kwargs: Any) -> PipelineResult:
        """See Pipeline.run."""
        result = super().run(**kwargs)
        if result.dead_letters and not self.dead_letters_allowed:
            first = result.dead_letters[0]
            raise AssertionFailedError(
                f"{result.total('dead_lettered')} events failed, the first of them in {first['transform']}: "
                f"{first['error']}; input {first['input']!r}.\n{first['traceback']}\n"
                "Allow it with TestPipeline(dead_letters_allowed=True) if it is meant to."
            )
        return result
