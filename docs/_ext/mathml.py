"""Formulas as MathML, which browsers show without any script or font from elsewhere."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def to_mathml(node, as_block):
    """The formula of a node; primes are told to the converter by their name."""
    return tex2mathml(node.astext().replace("'", r"\prime "), as_block=as_block)


def visit_math(self, node):
    self.body.append(to_mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_displaymath(self, node):
    self.body.append(f'<div class="math">{to_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
