"""The directive ``sentences``: every error of the package that a user can mend, from the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from adpe_mm import errors

ROOT = Path(__file__).resolve().parents[2]
RAISED = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.UserError)
} | {'UnreadableImage'}


def text_of(node: ast.expr) -> str:
    """A message as it is written, with names of values in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(text_of, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    return '{' + ast.unparse(value) + '}'


def sentences(path: Path) -> Iterator[str]:
    """What a file raises as `UserError`, in the order of its lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id in RAISED:
                yield text_of(node.exc.args[0])


class Sentences(SphinxDirective):
    """A list of sentences per part of the package."""

    def run(self) -> list[nodes.Node]:
        parts: dict[str, list[str]] = {}
        for folder in ('adpe_mm', 'tools'):
            for path in sorted((ROOT / folder).rglob('*.py')):
                self.env.note_dependency(str(path))
                found = list(sentences(path))
                if found:
                    parts[path.relative_to(ROOT).as_posix()] = found
        result: list[nodes.Node] = []
        for name, found in parts.items():
            result.append(nodes.rubric('', '', nodes.literal(text=name)))
            items = [nodes.list_item('', nodes.paragraph(text=text)) for text in found]
            result.append(nodes.bullet_list('', *items))
        return result


def setup(app: Sphinx) -> dict:
    app.add_directive('sentences', Sentences)
    return dict(version='1', parallel_read_safe=True)
