"""The API reference names everything public, and class docstrings name every attribute."""

import inspect
import re
from functools import cached_property
from pathlib import Path

import pytest

import skmixed
from skmixed import datasets, exceptions, inference, model_selection, plotting

DOCS = Path(__file__).parents[2] / "docs"
MODULES = [skmixed, inference, plotting, model_selection, datasets, exceptions]


def listed(page):
    """Last parts of all names in the page's tables of contents of classes and functions."""
    blocks = re.findall(r"\.\. autosummary::\n(.*?)```", page, flags=re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line.lstrip("~").rpartition(".")[2] for line in lines if line and line[0] != ":"]


def public_classes():
    found = {getattr(module, name) for module in MODULES for name in module.__all__}
    classes = [c for c in found if inspect.isclass(c) and not issubclass(c, Exception)]
    return sorted(classes, key=lambda c: c.__name__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_reference_is_complete(module):
    names = listed((DOCS / "api.md").read_text(encoding="utf-8"))
    public = {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}
    assert public <= set(names)


def test_reference_names_nothing_twice():
    names = listed((DOCS / "api.md").read_text(encoding="utf-8"))
    assert len(names) == len(set(names)) > 80


@pytest.mark.parametrize("cls", public_classes(), ids=lambda c: c.__name__)
def test_attributes_are_documented(cls):
    """Properties have no entry of their own on the page of a class."""
    properties = {
        name
        for name, member in inspect.getmembers(cls)
        if isinstance(member, property | cached_property) and name[0] != "_"
    }
    section = inspect.getdoc(cls).partition("Attributes\n----------\n")[2]
    assert properties <= set(re.findall(r"\w+", section))
