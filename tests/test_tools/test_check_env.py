"""Tests of tools/check_env.py."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'check_env.py'


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path(str(TOOL))


def run_tool(folder=None):
    """Runs the tool, with ``folder`` first on the path, and returns exit status and output."""
    code = f'import sys; sys.argv = [{str(TOOL)!r}]; '
    if folder is not None:
        code += f'sys.path.insert(0, {str(folder)!r}); '
    code += f'import runpy; runpy.run_path({str(TOOL)!r}, run_name="__main__")'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        (
            ImportError('/x/mmcv/_ext.so: undefined symbol: _ZN2at4_ops5zeros4callE'),
            'compiled for another torch',
        ),
        (
            ImportError('libGL.so.1: cannot open shared object file: No such file or directory'),
            'opencv-python-headless',
        ),
        (RuntimeError('operator torchvision::nms does not exist'), 'different builds'),
        (OSError('libcudart.so.13: cannot open shared object file'), 'CUDA'),
        (
            ModuleNotFoundError("No module named 'shapely.geometry'", name='shapely.geometry'),
            'shapely is missing: pip install shapely',
        ),
        (
            ModuleNotFoundError("No module named 'mmengine'", name='mmengine'),
            'pip install onedl-mmengine==',
        ),
    ],
)
def test_remedy_tells_what_to_do_in_one_line(tool, error, advice):
    line = tool['remedy'](error)
    assert advice in line and '\n' not in line


def test_remedy_for_the_unknown_is_the_reason_in_one_line(tool):
    assert tool['remedy'](ValueError('first\nsecond')) == 'ValueError: first second'
    assert tool['remedy'](KeyError()) == 'KeyError: no reason given'


def test_mmcv_without_operators_never_comes_from_a_cache(tool):
    line = tool['remedy'](ImportError('undefined symbol: x'))
    for option in ('--no-cache-dir', '--no-binary', '--force-reinstall', '--no-deps'):
        assert option in line


def test_kernel_that_a_gpu_cannot_run(tool):
    error = RuntimeError('CUDA error: no kernel image is available for execution on the device')
    assert 'older or newer CUDA' in tool['remedy'](error)
    assert 'cores' in tool['run_kernel']('cpu')


def test_two_opencvs_are_told(tmp_path):
    for name in ('opencv_python', 'opencv_python_headless'):
        info = tmp_path / f'{name}-5.0.dist-info'
        info.mkdir()
        name = name.replace('_', '-')
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 5.0\n')
    _, output = run_tool(tmp_path)
    assert 'note: opencv-python and opencv-python-headless lie over one another' in output


@pytest.mark.slow
def test_this_environment_passes():
    status, output = run_tool()
    assert status == 0, output
    rows = {line.split()[0]: line.split() for line in output.splitlines() if line.startswith('  ')}
    import torch

    assert rows['torch'][1] == torch.__version__
    assert rows['mmcv.ops'][1].startswith(('torchvision', 'mmcv'))
    assert rows['cpu'][2] == 'cores'
    assert 'problem' not in output


@pytest.mark.slow
def test_broken_library_is_told(tmp_path):
    (tmp_path / 'cv2').mkdir()
    (tmp_path / 'cv2' / '__init__.py').write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')\n"
    )
    status, output = run_tool(tmp_path)
    assert status == 1
    assert 'Traceback' not in output
    problems = [line for line in output.splitlines() if line.startswith('problem with ')]
    assert any('cv2' in line and 'OpenCV needs libGL' in line for line in problems)
    # Once, though mmcv and others fail for the same reason.
    assert output.count('OpenCV needs libGL') == 1


@pytest.mark.slow
def test_overwritten_library_is_told(tmp_path):
    """As after the files of one family of builds were laid over those of the other."""
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet' / '__init__.py').write_text("__version__ = '3.3.0'\n")
    status, output = run_tool(tmp_path)
    assert status == 1
    problems = [line for line in output.splitlines() if line.startswith('problem with ')]
    assert len(problems) == 1
    assert problems[0].startswith('problem with mmdet: its files are of version 3.3.0')
