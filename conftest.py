"""What is collected under docs, whose examples show every blank as it is printed."""

import doctest

import pytest

# Configuration of the site, and what its build writes.
collect_ignore = ["docs/conf.py", "docs/_ext", "docs/gallery", "docs/generated"]


class _TrailingBlanks(doctest.OutputChecker):
    """Compares lines without the blanks at their ends, which pandas pads headers with."""

    def check_output(self, want, got, optionflags):
        got = "".join(line.rstrip() + "\n" for line in got.splitlines())
        return super().check_output(want, got, optionflags)


def pytest_collection_modifyitems(items):
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.path.suffix == ".md":
            item.runner.optionflags &= ~doctest.NORMALIZE_WHITESPACE
            item.runner._checker = _TrailingBlanks()
