"""Classes in the reference: where they are, and attributes in the words of their docstrings."""

import re
from functools import cached_property

from numpydoc.docscrape_sphinx import SphinxDocString


def documented_classes(page):
    """Full name, by name, of every class in the tables of the reference."""
    module, classes = "", {}
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif found := re.fullmatch(r" +~?((?:\w+\.)*([A-Z]\w+))", line):
            classes[found[2]] = f"{module}.{found[1]}"
    return classes


def skip_properties(app, what, name, obj, skip, options):
    """Leave out of the members what a class has among its attributes."""
    return True if isinstance(obj, property | cached_property) else None


def setup(app):
    app.connect("autodoc-skip-member", skip_properties)
    # numpydoc takes the text of a property for that of the attribute, if it finds one.
    described = SphinxDocString._process_param
    SphinxDocString._process_param = lambda self, param, desc, fake_autosummary: described(
        self, param, desc, False
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
