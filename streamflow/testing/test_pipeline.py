"""TestPipeline: a pipeline for a test, in which nothing fails unseen."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamflow.base.settings import Settings
from streamflow.options.pipeline_options import PipelineOptions
from streamflow.runtime.pipeline import Pipeline, PipelineResult

__all__ = ["TestPipeline"]


class TestPipeline(Pipeline):
    """A Pipeline whose `run` raises the error of the first event that failed, once all others are through; elsewhere
    such events go to a topic, and `assert_that` would only miss what became of them.

    `dead_letters_allowed`: for tests of just that; the result has them. `triggers_by_bundle`: as in Apache Beam's tests
    the trigger of a window is asked once for all that `Create` gives, or one `add_elements` of a TestStream. False,
    here or in the settings: after each element, as elsewhere. Other arguments: see Pipeline; what Beam's TestPipeline
    takes besides is ignored.
    """

    __test__ = False  # it is no test, whatever pytest thinks of its name

    def __init__(
        self,
        runner: Any = None,
        options: PipelineOptions | None = None,
        argv: Sequence[str] | None = None,
        is_integration_test: bool = False,
        blocking: bool = True,
        additional_pipeline_args: Sequence[str] | None = None,
        display_data: Any = None,
        timeout: int | None = None,
        *,
        dead_letters_allowed: bool = False,
        triggers_by_bundle: bool | None = None,
        settings: Settings | None = None,
        **kwargs: Any,
    ) -> None:
        self.args = [*(argv or []), *(additional_pipeline_args or [])]
        settings = settings or Settings()
        wished = settings.triggers_by_bundle if triggers_by_bundle is None else triggers_by_bundle
        settings = replace(settings, triggers_by_bundle=wished is not False)
        super().__init__(runner=runner, options=options, argv=self.args, settings=settings, **kwargs)
        self.dead_letters_allowed = dead_letters_allowed

    def get_full_options_as_args(self, **extra_opts: Any) -> list[str]:
        """The command line that it was given, and these options as one."""
        given = {name: value for name, value in extra_opts.items() if value}
        return [*self.args, *(f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items())]

    def get_option(self, opt_name: str, bool_option: bool = False) -> Any:
        """An option of the command line that it was given; None, or False, if it is not there."""
        name = f"--{opt_name.removeprefix('--')}"
        if bool_option:
            return name in self.args
        after = dict(zip(self.args, self.args[1:], strict=False))
        return next((arg.split("=", 1)[1] for arg in self.args if arg.startswith(f"{name}=")), after.get(name))

    def get_pipeline_options(self) -> PipelineOptions:
        return self.options

    def run(self, test_runner_api: Any = True, **kwargs: Any) -> PipelineResult:
        """See Pipeline.run. `test_runner_api` is Apache Beam's, and has no meaning here."""
        result = super().run(**kwargs)
        if result.first_error is not None and not self.dead_letters_allowed:
            result.first_error.add_note(
                f"{result.total('dead_lettered')} events failed. Allow it with TestPipeline(dead_letters_allowed=True) "
                "if it is meant to."
            )
            raise result.first_error
        return result
