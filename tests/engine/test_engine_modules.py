"""The engine's folder explains itself."""

import pkgutil
import re

import streamflow.engine


def test_every_module_of_the_engine_stands_once_in_its_docstring() -> None:
    described = "\n".join(re.findall("^    ( *\\S.*?)  ", streamflow.engine.__doc__ or "", re.MULTILINE))
    named = sorted(re.findall(r"\w+", described))
    assert named == sorted(module.name for module in pkgutil.iter_modules(streamflow.engine.__path__))
