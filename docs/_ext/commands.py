"""The directive ``commands``: what every command of `tools/` takes, from its own parser."""

import argparse
import runpy
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


class _Parsed(BaseException):
    """Carries a command's parser out of it; no `except Exception` stops it."""


def parser_of(script: Path) -> argparse.ArgumentParser | None:
    """The parser that a command builds, or None if it takes no arguments."""

    def stop(parser, *args, **kwargs):
        raise _Parsed(parser)

    names = 'parse_args', 'parse_known_args'
    kept = {name: getattr(argparse.ArgumentParser, name) for name in names}
    argv = sys.argv
    try:
        for name in names:
            setattr(argparse.ArgumentParser, name, stop)
        sys.argv = [str(script.relative_to(ROOT))]
        runpy.run_path(str(script), run_name='__main__')
    except _Parsed as found:
        return found.args[0]
    finally:
        sys.argv = argv
        for name, method in kept.items():
            setattr(argparse.ArgumentParser, name, method)
    return None


class Commands(SphinxDirective):
    """One section per command, with its help as a terminal shows it."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for script in sorted((ROOT / 'tools').rglob('*.py')):
            if 'ArgumentParser' not in script.read_text(encoding='utf-8'):
                continue
            self.env.note_dependency(str(script))
            parser = parser_of(script)
            if parser is None:
                continue
            name = script.relative_to(ROOT).as_posix()
            parser.prog = f'python {name}'
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title(text=name)
            section += nodes.literal_block(text=parser.format_help(), language='text')
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict:
    app.add_directive('commands', Commands)
    return dict(version='1', parallel_read_safe=True)
