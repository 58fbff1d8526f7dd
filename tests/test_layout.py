"""Who may import whom: the table of CONTRIBUTING.md, section 'Layout'."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each part of the package, after those that it may import.
MAY_IMPORT = {
    'errors': set(),
    'version': set(),
    'ops': set(),
    'compat': set(),
    '__init__': {'version', 'ops', 'compat'},
    'registry': set(),
    'devices': set(),
    'options': set(),
    'explaining': set(),
    'stopping': set(),
    'torchrun': {'stopping'},
    'processes': {'stopping'},
    'checkpoints': {'registry'},
    'models': {'registry', 'checkpoints'},
    'datasets': {'registry', 'stopping'},
    'detection': {'registry', 'datasets'},
    'launch': {'devices', 'options', 'explaining', 'processes', 'stopping', 'datasets'},
    'engine': {
        'version', 'registry', 'stopping', 'processes', 'launch', 'checkpoints', 'models',
        'datasets',
    },
    'evaluation': {
        'version', 'registry', 'options', 'stopping', 'processes', 'launch', 'checkpoints',
        'models', 'datasets', 'engine',
    },
    'api': {
        'version', 'registry', 'launch', 'checkpoints', 'models', 'datasets', 'engine',
        'evaluation',
    },
    'exporting': {'registry', 'checkpoints', 'models', 'api'},
}  # fmt: skip
PACKAGE = sorted((ROOT / 'adpe_mm').rglob('*.py'))
SCRIPTS = sorted((ROOT / 'tools').rglob('*.py'))
TESTS = sorted((ROOT / 'tests').rglob('*.py'))


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at its top or within functions."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = '.'.join([*above, *filter(None, [node.module])])
            found |= {f'{module}.{alias.name}' for alias in node.names}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / 'adpe_mm').parts[0].removesuffix('.py')


@pytest.mark.parametrize('part', sorted({part_of(path) for path in PACKAGE}))
def test_a_part_imports_what_lies_below_it(part):
    assert part in MAY_IMPORT, f'say here and in CONTRIBUTING.md what adpe_mm.{part} may import'
    for path in PACKAGE:
        if part_of(path) != part:
            continue
        found = {name.split('.')[1] for name in imports(path) if name.startswith('adpe_mm.')}
        assert found <= MAY_IMPORT[part] | {part, 'errors'}, path


def test_no_circles():
    parts = list(MAY_IMPORT)
    for part, below in MAY_IMPORT.items():
        assert all(parts.index(other) < parts.index(part) for other in below), part
    names = {'.'.join(path.relative_to(ROOT).with_suffix('').parts): path for path in PACKAGE}
    names = {name.removesuffix('.__init__'): path for name, path in names.items()}
    graph = {}
    for module, path in names.items():
        found = {n if n in names else n.rpartition('.')[0] for n in imports(path)}
        graph[module] = (found & set(names)) - {module}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_models_need_mmpretrain_only():
    for path in PACKAGE:
        if part_of(path) == 'models':
            libraries = {name.split('.')[0] for name in imports(path)}
            assert not libraries & {'mmseg', 'mmdet'}, path


def test_only_configs_import_what_needs_mmdet():
    for path in PACKAGE:
        if part_of(path) != 'detection':
            assert not any(n.startswith('adpe_mm.detection') for n in imports(path)), path


def test_nothing_imports_a_script():
    scripts = {'tools', *(path.stem for path in SCRIPTS)}
    for path in [*PACKAGE, *SCRIPTS, *TESTS]:
        assert not {name.split('.')[0] for name in imports(path)} & scripts, path
