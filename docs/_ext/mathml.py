"""Formulas as MathML, which browsers draw by themselves: pages need no network."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, 'div', CLASS='math'))
    self.body.append(convert(node.astext().strip(), display='block'))
    self.body.append('</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_displaymath, None))
    return dict(version='1', parallel_read_safe=True)
