"""Attributes of a class are documented once, in the words of its own docstring."""

from functools import cached_property

from numpydoc.docscrape_sphinx import SphinxDocString


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
