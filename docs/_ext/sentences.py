"""The directive ``sentences``: every error of the package that a user can mend, from the code."""

import ast
import re
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
    """A message as it is written; of a value the name stands in braces, or dots."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(text_of, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    while isinstance(value, ast.Call | ast.Subscript):
        # sorted(names), ', '.join(names), names[0]: of the names
        value = value.value if isinstance(value, ast.Subscript) else next(iter(value.args), None)
    if isinstance(value, ast.Name):
        return '{' + value.id.strip('_').lower() + '}'
    return '{' + value.attr + '}' if isinstance(value, ast.Attribute) else '...'


def sentences(path: Path) -> Iterator[str]:
    """What a file raises as `UserError`, in its own words."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id in RAISED:
                text = text_of(node.exc.args[0])
                if re.search(r'\w{2}', re.sub(r'\{\w+\}', '', text)):  # else another file's
                    yield text


class Sentences(SphinxDirective):
    """A list of sentences per part of the package."""

    def run(self) -> list[nodes.Node]:
        parts: list[tuple[str, str, list[str]]] = []
        for folder in ('adpe_mm', 'tools'):
            for path in sorted((ROOT / folder).rglob('*.py')):
                self.env.note_dependency(str(path))
                found = list(dict.fromkeys(sentences(path)))
                if found:
                    code = ast.parse(path.read_text(encoding='utf-8'))
                    about = ast.get_docstring(code).split('\n\n')[0].replace('\n', ' ')
                    parts.append((path.relative_to(ROOT).as_posix(), about, found))
        result: list[nodes.Node] = []
        for name, about, found in parts:
            result.append(nodes.rubric(text=about.replace('`', '')))
            result.append(nodes.paragraph('', '', nodes.literal(text=name)))
            items = [
                nodes.list_item('', nodes.paragraph('', '', nodes.literal(text=text)))
                for text in found
            ]
            result.append(nodes.bullet_list('', *items))
        return result


def setup(app: Sphinx) -> dict:
    app.add_directive('sentences', Sentences)
    return dict(version='1', parallel_read_safe=True)
