"""Tests of what tools/setup_env.sh refuses, before it downloads anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'setup_env.sh'


def run_tool(*arguments, **variables):
    """Runs the tool with this Python and returns exit status, output and errors."""
    environment = {**os.environ, 'PYTHON': sys.executable, **variables}
    run = subprocess.run(
        ['bash', str(TOOL), *arguments], capture_output=True, text=True, env=environment
    )
    return run.returncode, run.stdout, run.stderr


def assert_refused(result, *parts):
    """Asserts that the tool ended with 1 and one line that contains ``parts``."""
    status, _, errors = result
    assert status == 1
    assert errors.startswith('setup: ') and errors.count('\n') == 1
    for part in parts:
        assert part in errors


@pytest.mark.parametrize('python', ['no-such-python', 'false'])
def test_python_that_does_not_fit(tmp_path, python):
    result = run_tool(ADPE_ENV=str(tmp_path / 'env'), PYTHON=python)
    assert_refused(result, f'PYTHON={python}', '3.10 to 3.13')


def test_python_that_is_too_old(tmp_path):
    old = tmp_path / 'python'
    # The check asks Python itself: this one answers as an old one does.
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "raise SystemExit(1)"\n')
    old.chmod(0o755)
    assert_refused(run_tool(ADPE_ENV=str(tmp_path / 'env'), PYTHON=str(old)), 'name another')


def test_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    assert_refused(run_tool(ADPE_ENV=str(tmp_path)), str(tmp_path), 'left alone')
    assert (tmp_path / 'thesis.txt').read_text() == 'years of work'


def test_full_disk(tmp_path):
    (tmp_path / 'df').write_text('#!/bin/sh\necho head\necho "disk 100 98 2097152 98% /"\n')
    (tmp_path / 'df').chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    result = run_tool(ADPE_ENV=str(tmp_path / 'env'), PATH=path)
    assert_refused(result, '2 GB free', 'ADPE_ENV')


def test_unknown_argument():
    assert_refused(run_tool('--verbose'), '--verbose')


def test_cache_dir_is_named_after_what_it_holds(tmp_path):
    status, output, _ = run_tool('--cache-dir', XDG_CACHE_HOME=str(tmp_path))
    folder = Path(output.strip())
    assert status == 0
    assert folder.parent == tmp_path / 'adpe_mm'
    assert folder.name.endswith('-py{}.{}'.format(*sys.version_info))


def test_nothing_is_compiled():
    """Neither a compiler nor a toolkit, nor what would have one be asked for."""
    for word in ('gcc', 'g++', 'nvcc', 'CUDA_HOME', 'FORCE_CUDA', 'build-essential', 'Python.h'):
        assert word not in TOOL.read_text()


@pytest.mark.parametrize(
    ('python', 'index', 'complete'),
    [('same', None, True), ('same', 'other', False), (None, None, True), (None, 'mine', True)],
)
def test_what_counts_as_complete(tmp_path, python, index, complete):
    """Another index for torch that is asked for is another environment."""
    env = tmp_path / 'env'
    (env / 'bin').mkdir(parents=True)
    (env / '.adpe_env').touch()
    (env / 'bin' / 'python').symlink_to(sys.executable)
    (env / 'bin' / 'pip').symlink_to('/bin/true')
    name = Path(run_tool('--cache-dir')[1].strip()).name.removeprefix('env-')
    (env / '.adpe_complete').write_text(f'{name} mine\n')
    (tmp_path / 'df').write_text('#!/bin/sh\necho head\necho "disk 100 98 2097152 98% /"\n')
    (tmp_path / 'df').chmod(0o755)
    result = run_tool(
        ADPE_ENV=str(env),
        PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        PYTHON=sys.executable if python else '',
        TORCH_INDEX=index or '',
    )
    if complete:
        assert result[0] == 0 and 'ready' in result[1], result
    else:
        assert_refused(result, '2 GB free')


def test_set_up_again_after_an_interruption(tmp_path):
    """An environment without the stamp that is written last does not count as complete."""
    env = tmp_path / 'env'
    (env / 'bin').mkdir(parents=True)
    (env / '.adpe_env').touch()
    (env / 'bin' / 'python').symlink_to(sys.executable)
    (tmp_path / 'df').write_text('#!/bin/sh\necho head\necho "disk 100 98 2097152 98% /"\n')
    (tmp_path / 'df').chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    # It starts over, and so comes to the disk.
    assert_refused(run_tool(ADPE_ENV=str(env), PATH=path), '2 GB free')
