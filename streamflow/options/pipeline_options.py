"""Apache Beam's module of this name: options of a pipeline, from a command line or from keywords.

    class MyOptions(PipelineOptions):
        @classmethod
        def _add_argparse_args(cls, parser):
            parser.add_argument("--input")

    options = PipelineOptions(["--input", "a.txt", "--streaming"])
    options.view_as(MyOptions).input

Views of the same options share their values. The options of Beam's own classes are known and can be read, so that
published pipelines start; what they would set in Beam (runners, cloud projects, staging) has no meaning here. Where
StreamFlow's own settings go is `Pipeline(on=…, settings=…)` and `streamflow run`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, cast

from streamflow.options.value_provider import RuntimeValueProvider, StaticValueProvider

__all__ = [
    "DebugOptions",
    "DirectOptions",
    "GoogleCloudOptions",
    "OptionsContext",
    "PipelineOptions",
    "PortableOptions",
    "ProfilingOptions",
    "SetupOptions",
    "StandardOptions",
    "TestOptions",
    "TypeOptions",
    "WorkerOptions",
]

_V = TypeVar("_V", bound="PipelineOptions")


class _Parser(argparse.ArgumentParser):
    def add_value_provider_argument(self, *names: str, **kwargs: Any) -> None:
        """An argument whose value is a ValueProvider."""
        value_type: Callable[[Any], Any] = kwargs.pop("type", str)
        choices, default = kwargs.pop("choices", None), kwargs.pop("default", None)
        option = names[-1].lstrip("-").replace("-", "_")

        def provider(text: str) -> StaticValueProvider:
            value = StaticValueProvider(value_type, text)
            if choices is not None and value.value not in choices:
                raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(map(repr, choices))}")
            return value

        absent = RuntimeValueProvider(option, value_type, default)
        self.add_argument(*names, type=provider, default=absent, **kwargs)


_of_context: ContextVar[Mapping[str, Any]] = ContextVar("options", default=MappingProxyType({}))


class OptionsContext(ContextDecorator):
    """Options that all PipelineOptions made within have, unless they are given others: `with
    OptionsContext(pipeline_type_check=False):`, or as a decorator of a function."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._tokens: list[Token[Mapping[str, Any]]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_of_context.set({**_of_context.get(), **self.options}))
        return self

    def __exit__(self, *exception: object) -> None:
        _of_context.reset(self._tokens.pop())


class PipelineOptions:
    """Options as attributes. `flags`: a command line, by default that of the process; keywords go before it.

    A subclass adds options in `_add_argparse_args(cls, parser)`. AttributeError for an option that the class does not
    have."""

    def __init__(self, flags: Sequence[str] | None = None, **kwargs: Any) -> None:
        self._flags: list[str] = list(sys.argv[1:] if flags is None else flags)
        self._given: dict[str, Any] = {**_of_context.get(), **kwargs}
        self._visible = self._parsed()

    @classmethod
    def from_dictionary(cls, options: Mapping[str, Any]) -> Self:
        """Of a mapping: True is a flag, False and None are left out, of a list each value is given."""
        flags: list[str] = []
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            given = [each for each in values if each is not None and each is not False]
            flags += [f"--{name}" if each is True else f"--{name}={each}" for each in given]
        return cls(flags)

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        """The options of this class, added to an `argparse.ArgumentParser`."""

    def _parsed(self) -> dict[str, Any]:
        parser = _Parser(add_help=False, allow_abbrev=False)
        for each in reversed(type(self).__mro__):
            if each is not _Known and vars(each).keys() & {"_add_argparse_args", "VALUES", "FLAGS", "LISTS"}:
                cast(type[PipelineOptions], each)._add_argparse_args(parser)
        known, _ = parser.parse_known_args(self._flags)
        return vars(known)

    def view_as(self, cls: type[_V]) -> _V:
        """The same options, with the attributes of another class."""
        view = cls.__new__(cls)
        view._flags, view._given = self._flags, self._given
        view._visible = view._parsed()
        return view

    def get_all_options(
        self,
        drop_default: bool = False,
        add_extra_args_fn: Callable[[Any], None] | None = None,
        retain_unknown_options: bool = False,
        current_only: bool = False,
    ) -> dict[str, Any]:
        """Name → value, of all classes of options that there are. `drop_default`: without what has its default.
        `add_extra_args_fn` adds options to the parser it gets. `retain_unknown_options`: what no class
        knows too. `current_only`: of this class alone."""
        options: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for cls in [type(self)] if current_only else _classes(PipelineOptions):
            options |= self.view_as(cls)._visible
            defaults |= PipelineOptions([]).view_as(cls)._visible
        if add_extra_args_fn is not None:
            parser = _Parser(add_help=False, allow_abbrev=False)
            add_extra_args_fn(parser)
            options |= vars(parser.parse_known_args(self._flags)[0])
            defaults |= vars(parser.parse_known_args([])[0])
        given = self._given.items()
        if retain_unknown_options:
            options = {**self._unknown(options), **options}
        options |= {name: value for name, value in given if name in options or retain_unknown_options}
        if not drop_default:
            return options
        return {name: value for name, value in options.items() if name not in defaults or value != defaults[name]}

    def _unknown(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What the command line has besides: a name and a text, or True where no text follows."""
        found: dict[str, Any] = {}
        for flag, after in zip(self._flags, [*self._flags[1:], "-"], strict=True):
            name, equals, text = flag.removeprefix("--").partition("=")
            if flag.startswith("--") and name not in known:
                found[name] = text if equals else True if after.startswith("-") else after
        return found

    def display_data(self) -> dict[str, Any]:
        """What is not at its default."""
        return self.get_all_options(drop_default=True, retain_unknown_options=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._visible:
            raise AttributeError(f"{type(self).__name__} has no option '{name}'. Use view_as(its class).")
        return self._given.get(name, self._visible[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        elif name in self._visible:
            self._given[name] = value
        else:
            raise AttributeError(f"{type(self).__name__} has no option '{name}'. Use view_as(its class).")

    def __dir__(self) -> Iterator[str]:
        return iter(sorted([*super().__dir__(), *self._visible]))

    def __repr__(self) -> str:
        shown = {name: self._given.get(name, value) for name, value in self._visible.items()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _classes(cls: type[PipelineOptions]) -> Iterator[type[PipelineOptions]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _classes(each)


class _Known(PipelineOptions):
    """Options of Beam's own, as tables: texts and numbers with their defaults (or a type instead), flags, lists."""

    VALUES: ClassVar[Mapping[str, Any]] = {}
    FLAGS: ClassVar[Sequence[str]] = ()
    LISTS: ClassVar[Sequence[str]] = ()

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        for name, default in cls.VALUES.items():
            if isinstance(default, type):
                parser.add_argument(f"--{name}", default=None, type=default)
            else:
                kind = type(default) if isinstance(default, (int, float)) else str
                parser.add_argument(f"--{name}", default=default, type=kind)
        for name in cls.FLAGS:
            parser.add_argument(f"--{name}", default=False, action="store_true")
        for name in cls.LISTS:
            parser.add_argument(f"--{name}", default=None, action="append")


class StandardOptions(_Known):
    VALUES: ClassVar = {"runner": None}
    FLAGS: ClassVar = ("streaming", "no_auto_unique_labels", "auto_unique_labels", "no_wait_until_finish")
    LISTS: ClassVar = ("resource_hints",)


class TypeOptions(_Known):
    VALUES: ClassVar = {"type_check_strictness": "DEFAULT_TO_ANY"}
    FLAGS: ClassVar = (
        "allow_non_deterministic_key_coders",
        "allow_unsafe_triggers",
        "performance_runtime_type_check",
        "runtime_type_check",
    )

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        super()._add_argparse_args(parser)
        parser.add_argument("--no_pipeline_type_check", dest="pipeline_type_check", action="store_false", default=True)


class DirectOptions(_Known):
    VALUES: ClassVar = {"direct_num_workers": 1, "direct_running_mode": "in_memory"}
    FLAGS: ClassVar = ("no_direct_runner_use_stacked_bundle", "direct_test_splits")


class SetupOptions(_Known):
    VALUES: ClassVar = {
        "requirements_file": None,
        "requirements_cache": None,
        "setup_file": None,
        "sdk_location": "default",
        "pickle_library": "default",
    }
    FLAGS: ClassVar = ("save_main_session",)
    LISTS: ClassVar = ("extra_package", "beam_plugin")


class WorkerOptions(_Known):
    VALUES: ClassVar = {
        "num_workers": int,
        "max_num_workers": int,
        "autoscaling_algorithm": None,
        "worker_machine_type": None,
        "machine_type": None,
        "disk_size_gb": int,
        "sdk_container_image": None,
    }


class GoogleCloudOptions(_Known):
    VALUES: ClassVar = {
        "project": None,
        "job_name": None,
        "staging_location": None,
        "temp_location": None,
        "region": None,
        "service_account_email": None,
        "template_location": None,
    }
    FLAGS: ClassVar = ("update",)
    LISTS: ClassVar = ("label", "labels")


class DebugOptions(_Known):
    LISTS: ClassVar = ("experiment", "experiments")

    def add_experiment(self, experiment: str) -> None:
        known = self._given.get("experiments", self._visible["experiments"]) or []
        self._given["experiments"] = known if experiment in known else [*known, experiment]

    def lookup_experiment(self, key: str, default: Any = None) -> Any:
        """True for an experiment without a value, else its value."""
        named = dict(each.partition("=")[::2] for each in self.experiments or [])
        return named[key] or True if key in named else default


class ProfilingOptions(_Known):
    VALUES: ClassVar = {"profile_location": None, "profile_sample_rate": 1.0}
    FLAGS: ClassVar = ("profile_cpu", "profile_memory")


class PortableOptions(_Known):
    VALUES: ClassVar = {"job_endpoint": None, "environment_type": None, "environment_config": None}


class TestOptions(_Known):
    VALUES: ClassVar = {"on_success_matcher": None, "wait_until_finish_duration": int}
    FLAGS: ClassVar = ("dry_run",)
    __test__ = False  # it is no test, whatever pytest thinks of its name
