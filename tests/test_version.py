"""Tests of the check of the installed libraries."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

import adpe_mm
from adpe_mm.version import LIBRARIES, Library, check_versions, compare_versions

ROOT = Path(__file__).resolve().parent.parent

TORCH = Library('torch', ('torch',), '2.4', '2.11.0', '2.12')
MMCV = Library('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.0', '2.3.6', '2.4')
DOUBT = dict(libraries=(TORCH,), installed=lambda library: {'torch': '2.13.0'})
MMDET = Library('mmdet', ('onedl-mmdetection', 'mmdet'), '3.2', '3.5.1', '3.6', required=False)


def install(**distributions):
    """Returns a stand-in that finds ``distributions`` installed (``_`` stands for ``-``)."""
    versions = {name.replace('_', '-'): version for name, version in distributions.items()}
    return lambda library: {n: versions[n] for n in library.distributions if n in versions}


def requirements(name):
    """Returns the requirements of ``requirements/NAME.txt`` by their name."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith('#')]
    return {requirement.name: requirement for requirement in parsed}


def test_import_is_light():
    heavy = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'numpy')
    code = f'import adpe_mm, json, sys; print(json.dumps([m for m in {heavy} if m in sys.modules]))'
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(run.stdout) == [], run.stderr


def test_version_is_one_that_pip_accepts():
    assert re.fullmatch(r'\d+\.\d+\.\d+', adpe_mm.__version__)


def test_this_environment_fits():
    errors, _ = compare_versions()
    assert errors == []


@given(st.integers(0, 4), st.integers(0, 30), st.integers(0, 30))
def test_findings_follow_the_order_of_versions(major, minor, patch):
    errors, doubts = compare_versions((TORCH,), install(torch=f'{major}.{minor}.{patch}'))
    assert bool(errors) == ((major, minor) < (2, 4))
    assert bool(doubts) == ((major, minor) >= (2, 12))


@pytest.fixture
def watched(monkeypatch):
    """As in a terminal, in the first of all processes."""
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    for rank in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(rank, raising=False)


@pytest.mark.parametrize('version', ['2.11.0+cu130', '2.11.1', '2.4.0', '2.11.0a0+git123'])
def test_builds_of_a_tested_version_pass_in_silence(watched, version):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_versions((TORCH,), install(torch=version))


def test_nightly_of_an_untested_release_is_told():
    errors, doubts = compare_versions((TORCH,), install(torch='2.12.0.dev20260301'))
    assert errors == [] and len(doubts) == 1


def test_one_error_names_all_that_is_wrong():
    found = install(torch='2.1.0', onedl_mmcv='1.7.2', mmdet='3.9.0')
    with pytest.raises(ImportError) as caught:
        check_versions((TORCH, MMCV, MMDET), found)
    message = str(caught.value)
    for part in (
        'torch 2.1.0 is older than 2.4: pip install torch==2.11.0',
        'onedl-mmcv 1.7.2 is older than 2.0: pip install onedl-mmcv==2.3.6',
        'mmdet 3.9.0 is newer than the tested 3.5.1',
    ):
        assert part in message


def test_one_warning_names_all_that_is_untested(watched):
    found = install(torch='2.13.0', onedl_mmcv='2.4.0', mmdet='3.1.0')
    with pytest.warns(UserWarning) as caught:
        check_versions((TORCH, MMCV, MMDET), found)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert 'torch 2.13.0' in message and 'onedl-mmcv 2.4.0' in message
    # What only detection needs does not stop pretraining.
    assert 'mmdet 3.1.0 is older than 3.2' in message


@pytest.mark.parametrize('rank', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_the_other_processes_of_a_run_say_nothing(watched, monkeypatch, rank):
    monkeypatch.setenv(rank, '1')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_versions(**DOUBT)


def test_the_processes_of_a_loader_say_nothing(watched, monkeypatch):
    monkeypatch.setattr('multiprocessing.parent_process', lambda: object())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_versions(**DOUBT)


def test_output_that_a_program_reads_has_no_warning(tmp_path):
    """A newer library is no line of a command's output."""
    newer = tmp_path / 'torch-99.0.dist-info'
    newer.mkdir()
    (newer / 'METADATA').write_text('Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n')
    code = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import adpe_mm.version as v; '
        'print(v.compare_versions()[1])'
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert 'torch 99.0 is newer than the tested' in run.stdout  # so there was something to say
    assert run.stderr == ''


def test_original_builds_count_as_the_library():
    assert compare_versions((MMCV,), install(mmcv_lite='2.2.0')) == ([], [])


def test_two_distributions_of_one_library_are_refused():
    errors, _ = compare_versions((MMCV,), install(onedl_mmcv='2.3.6', mmcv_lite='2.2.0'))
    assert len(errors) == 1
    assert 'onedl-mmcv 2.3.6 and mmcv-lite 2.2.0 are both installed' in errors[0]
    assert 'pip uninstall -y onedl-mmcv mmcv-lite && pip install onedl-mmcv==2.3.6' in errors[0]


def test_missing_library():
    required = Library('no_such_module', ('onedl-nothing', 'nothing'), '1.0', '1.2.3', '2.0')
    errors, doubts = compare_versions((required,), install())
    assert errors == ['no_such_module is not installed: pip install onedl-nothing==1.2.3']
    assert doubts == []
    optional = Library('no_such_module', ('nothing',), '1.0', '1.2.3', '2.0', required=False)
    assert compare_versions((optional,), install()) == ([], [])


def test_source_tree_without_metadata_passes():
    on_path = Library('json', ('no-such-distribution',), '1.0', '1.2.3', '2.0')
    assert compare_versions((on_path,), install()) == ([], [])


@pytest.mark.parametrize('library', LIBRARIES, ids=lambda library: library.module)
def test_lock_and_requirements_agree_with_the_tested_range(library):
    name = library.distributions[0]
    assert str(requirements('lock')[name].specifier) == f'=={library.tested}'
    lists = {**requirements('runtime'), **requirements('seg'), **requirements('det')}
    specifier = lists[name].specifier
    (lowest,) = (Version(s.version) for s in specifier if s.operator == '>=')
    assert Version(library.minimum) <= lowest < Version(library.below)
    assert specifier.contains(library.tested)


def test_lock_pins_what_the_requirements_name():
    lock = requirements('lock')
    assert {
        n for name in ('runtime', 'seg', 'det', 'dev', 'docs') for n in requirements(name)
    } <= set(lock)
    for requirement in lock.values():
        assert re.fullmatch(r'==[\w.]+', str(requirement.specifier)), requirement


def test_lock_belongs_to_no_cuda_and_has_one_opencv():
    lock = requirements('lock')
    assert not [name for name in lock if name.startswith(('nvidia', 'cuda', 'triton'))]
    assert [name for name in lock if name.startswith('opencv')] == ['opencv-python-headless']
