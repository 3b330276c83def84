"""The context managers that a function asks for (`DoFn.SetupContextParam`, `DoFn.BundleContextParam`)."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from streamflow.transforms.params import BundleContextParam, ContextParam, Param, SetupContextParam


class Contexts:
    """`given`: what the open ones give, by the parameter that asks for it."""

    def __init__(self, params: Iterable[Param]) -> None:
        asked = [param for param in params if isinstance(param, ContextParam)]
        self.given: dict[Any, Any] = {}
        self._of_bundle = [param for param in asked if isinstance(param, BundleContextParam)]
        self._open = ExitStack()
        for param in asked:
            if isinstance(param, SetupContextParam):
                self.given[param] = self._open.enter_context(param.opened())

    @contextmanager
    def bundle(self) -> Iterator[None]:
        """Those of a batch are open in here."""
        if not self._of_bundle:
            yield
            return
        with ExitStack() as stack:
            for param in self._of_bundle:
                self.given[param] = stack.enter_context(param.opened())
            yield

    def close(self) -> None:
        self._open.close()
