"""Tests of what an installed adpe_mm holds."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

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


@pytest.fixture(scope='module')
def wheel_path(tree, tmp_path_factory):
    """The wheel of the clone."""
    folder = tmp_path_factory.mktemp('wheel')
    options = ['--no-deps', '--no-index', '--no-build-isolation', '-q']
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', *options, '-w', str(folder), str(tree)], check=True
    )
    (path,) = folder.glob('adpe_mm-*.whl')
    return path


@pytest.mark.slow
def test_wheel_trains_from_another_folder(wheel_path, tmp_path):
    """Its own copies of commands and configs, far from any clone."""
    installed = tmp_path / 'site'
    options = ['--no-deps', '--no-index', '-q', '--target', str(installed)]
    subprocess.run([sys.executable, '-m', 'pip', 'install', *options, wheel_path], check=True)
    folder = tmp_path / 'elsewhere'
    write_images(folder / 'images', 32)
    mim = installed / 'adpe_mm' / '.mim'
    config = mim / 'configs' / 'pretrain' / 'adpe_vit-mini_mini.py'
    subprocess.run(
        [
            sys.executable, mim / 'tools' / 'train.py', config, '--cfg-options',
            'train_dataloader.dataset.data_root=images',
            'train_dataloader.dataset.data_prefix.img_path=', 'train_cfg.max_epochs=2',
            'default_hooks.checkpoint.interval=1',
        ],
        cwd=folder, check=True, capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(installed), CUDA_VISIBLE_DEVICES=''),
    )  # fmt: skip
    assert (folder / 'work_dirs' / 'adpe_vit-mini_mini' / 'epoch_2.pth').is_file()


def write_images(folder, number):
    """Images of noise, of 64 px."""
    folder.mkdir(parents=True)
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (number, 64, 64, 3))):
        Image.fromarray(image.astype(np.uint8)).save(folder / f'{i}.png')


@pytest.mark.slow
def test_wheel_holds_package_and_mim(tree, wheel_path):
    with zipfile.ZipFile(wheel_path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith('.dist-info/METADATA'))
        metadata = Parser().parsestr(wheel.read(metadata).decode())

    assert files_under(tree, ['adpe_mm']) <= names
    configs_and_tools = files_under(tree, ['configs', 'tools'])
    assert configs_and_tools
    assert {f'adpe_mm/.mim/{name}' for name in configs_and_tools} <= names
    assert 'adpe_mm/.mim/model-index.yml' in names
    assert not any(name.startswith(('tests/', 'configs/', 'tools/')) for name in names)
    assert set(metadata.get_all('Provides-Extra')) == {'seg', 'det', 'dev', 'docs'}
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
