"""The context managers that a function asks for by `DoFn.SetupContextParam` and `DoFn.BundleContextParam`, entered as
long as it lives, and around each batch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from streamflow.transforms.params import BundleContextParam, ContextParam, Param, SetupContextParam


class Contexts:
    """`values`: what each has given that is entered."""

    def __init__(self, *asked: Mapping[str, Param]) -> None:
        """`asked`: what each of the functions asks for."""
        params = dict.fromkeys(param for of_one in asked for param in of_one.values())
        self._of_bundle = [param for param in params if isinstance(param, BundleContextParam)]
        self._stack = ExitStack()
        self.values: dict[Param, Any] = {}
        self._enter((param for param in params if isinstance(param, SetupContextParam)), self._stack)

    @contextmanager
    def bundle(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._enter(self._of_bundle, stack)
            yield

    def close(self) -> None:
        self._stack.close()

    def _enter(self, params: Iterable[ContextParam], stack: ExitStack) -> None:
        for param in params:
            self.values[param] = stack.enter_context(param.manager())
