"""Tests of what an installed adpe_mm holds."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of the clone: packaging writes into its folder."""
    copy = tmp_path_factory.mktemp('clone') / 'adpe_mm'
    left_out = shutil.ignore_patterns('.*', 'work_dirs', 'build', '*.egg-info', '__pycache__')
    shutil.copytree(ROOT, copy, ignore=left_out)
    return copy


def files_under(folder, names):
    """Returns the relative paths of the sources in the folders ``names`` of ``folder``."""
    return {
        path.relative_to(folder).as_posix()
        for name in names
        for path in (folder / name).rglob('*')
        if path.suffix in ('.py', '.sh', '.md', '.yml')
    }


@pytest.mark.slow
def test_wheel_holds_package_and_mim(tree, tmp_path):
    options = ['--no-deps', '--no-index', '--no-build-isolation', '-q']
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', *options, '-w', str(tmp_path), str(tree)], check=True
    )
    (path,) = tmp_path.glob('adpe_mm-*.whl')
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith('.dist-info/METADATA'))
        metadata = Parser().parsestr(wheel.read(metadata).decode())

    assert files_under(tree, ['adpe_mm']) <= names
    configs_and_tools = files_under(tree, ['configs', 'tools'])
    assert configs_and_tools
    assert {f'adpe_mm/.mim/{name}' for name in configs_and_tools} <= names
    assert 'adpe_mm/.mim/model-index.yml' in names
    assert not any(name.startswith(('tests/', 'configs/', 'tools/')) for name in names)
    assert set(metadata.get_all('Provides-Extra')) == {'seg', 'det', 'dev'}
    assert metadata['Requires-Python'] == '>=3.10'
    # pip alone is enough: nothing has to be installed before.
    assert any(line.startswith('onedl-mmcv') for line in metadata.get_all('Requires-Dist'))
    for field in ('Author', 'Keywords', 'Project-URL', 'License', 'Summary'):
        assert metadata[field], field
    assert f'{sys.version_info[0]}.{sys.version_info[1]}' in '\n'.join(
        metadata.get_all('Classifier')
    )
    assert metadata['Description-Content-Type'] == 'text/markdown'
    # Relative links lead nowhere on an index.
    assert not re.findall(r'\]\((?!https?://|#)[^)]+\)', metadata.get_payload())


@pytest.mark.slow
def test_editable_install_links_to_the_clone(tree, tmp_path):
    build = f'import setuptools.build_meta as b; b.build_editable({str(tmp_path)!r})'
    subprocess.run([sys.executable, '-c', build], cwd=tree, check=True, capture_output=True)
    for name in ('configs', 'tools', 'model-index.yml'):
        link = tree / 'adpe_mm' / '.mim' / name
        assert not os.path.isabs(os.readlink(link))  # survives when the clone is moved
        assert link.resolve() == (tree / name).resolve()


def test_model_index_names_files_that_are_there():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import']
    for name in index['Import']:
        assert (ROOT / name).is_file(), name
