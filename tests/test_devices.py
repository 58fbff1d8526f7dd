"""What is said where there is an NVIDIA driver, a faked one, and torch sees no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adpe_mm import devices

ROOT = Path(__file__).resolve().parents[1]
OPEN = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs@x)\n'
CLOSED = 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Aug 19 01:15:15 UTC 2023\n'
GCC = 'GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n'


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Pretends a loaded driver, the nodes of GPUs, and a torch that sees none."""

    def load(version, text=CLOSED, gpus=1, cuda='13.0'):
        (tmp_path / 'nvidia').mkdir(exist_ok=True)
        (tmp_path / 'nvidia' / 'version').write_text(text.format(version) + GCC)
        for i in range(gpus):
            (tmp_path / f'nvidia{i}').touch()
        monkeypatch.setattr(devices, 'DRIVER', tmp_path / 'nvidia')
        monkeypatch.setattr(devices, 'DEVICES', tmp_path)
        monkeypatch.setattr('torch.version.cuda', cuda)
        monkeypatch.setattr('torch.cuda.is_available', lambda: False)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        return devices.unused_gpu()

    return load


@pytest.mark.parametrize('text', [OPEN, CLOSED])
@pytest.mark.parametrize(
    ('version', 'cuda', 'needed', 'other'),
    [
        ('535.104.05', '13.0', '580.65', 'for CUDA 12'),
        ('575.57.08', '13.2', '580.65', 'for CUDA 12'),
        ('470.256.02', '12.6', '525.60', 'for CUDA 11'),
        ('418.40', '11.8', '450.80', 'an older torch'),
    ],
)
def test_driver_too_old(driver, text, version, cuda, needed, other):
    line = driver(version, text, cuda=cuda)
    for part in (f'driver {version} is too old', f'CUDA {cuda}', needed, other, "DEVICES=''"):
        assert part in line
    assert '\n' not in line


def test_torch_without_cuda(driver):
    line = driver('580.82.07', cuda=None)
    assert 'build without CUDA' in line and 'docs/install.md' in line


def test_container_without_gpus(driver):
    assert '--gpus all' in driver('580.82.07', gpus=0)


def test_gpus_that_are_not_there(driver, monkeypatch):
    assert driver('580.82.07')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '7')
    assert "CUDA_VISIBLE_DEVICES='7'" in devices.unused_gpu()


def test_any_other_reason_is_that_of_torch(driver, monkeypatch):
    assert 'nvidia-smi' in driver('580.82.07')

    def unavailable():
        import warnings

        warnings.warn('CUDA initialization: unknown\nerror', stacklevel=1)
        return False

    monkeypatch.setattr('torch.cuda.is_available', unavailable)
    assert 'CUDA initialization: unknown error' in devices.unused_gpu()


@pytest.mark.parametrize('hidden', ['', ' ', '-1'])
def test_who_wants_the_cpu_gets_it(driver, monkeypatch, hidden):
    assert driver('535.104.05')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
    assert devices.unused_gpu() is None
    devices.require()


def test_without_a_driver_or_with_a_gpu_nothing_is_said(driver, monkeypatch, tmp_path):
    assert driver('535.104.05')
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    assert devices.unused_gpu() is None
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr(devices, 'DRIVER', tmp_path / 'none')
    assert devices.unused_gpu() is None


def test_unreadable_version(driver, tmp_path):
    driver('580')
    (tmp_path / 'nvidia' / 'version').unlink()
    assert 'of unknown version' in devices.unused_gpu()


@pytest.mark.parametrize(
    ('gpus', 'processes', 'ends'), [(2, 4, True), (2, 2, False), (0, 4, False)]
)
def test_more_processes_than_gpus(monkeypatch, gpus, processes, ends):
    monkeypatch.setattr(devices, 'DRIVER', Path('/none'))
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpus > 0)
    monkeypatch.setattr('torch.cuda.device_count', lambda: gpus)
    assert bool(devices.too_many(processes)) == ends
    if ends:
        with pytest.raises(RuntimeError, match='4 processes need 4 GPUs and torch sees 2'):
            devices.require(processes)


PRETRAINING = 'configs/pretrain/adpe_vit-mini_mini.py'
COMMANDS = [
    ('check_env.py',),
    ('train.py', PRETRAINING),
    ('test.py', 'configs/cls/adpe-vit-mini_mini.py', 'x.pth'),
    ('visualizations/predict.py', 'configs/cls/adpe-vit-mini_mini.py', 'x.pth'),
    ('visualizations/reconstruct.py', PRETRAINING, 'x.pth', 'images'),
    ('analysis_tools/benchmark.py', 'step'),
    ('benchmarks/transfer.py', 'scratch'),
]


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
def test_commands_end_with_the_sentence(tmp_path, command):
    """Instead of starting on the CPU, or with a toolkit of another CUDA, which nothing asks for."""
    (tmp_path / 'version').write_text(CLOSED.format('418.40') + GCC)
    nvcc = tmp_path / 'bin' / 'nvcc'
    nvcc.parent.mkdir()
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 12.4, V12.4.131"\n')
    nvcc.chmod(0o755)
    script = ROOT / 'tools' / command[0]
    code = (
        f'import sys; sys.path[:0] = [{str(script.parent)!r}, {str(ROOT)!r}]\n'
        f'from pathlib import Path; from adpe_mm import devices\n'
        f'devices.DRIVER = Path({str(tmp_path)!r})\n'
        f'import runpy; sys.argv = {[str(script), *command[1:]]!r}\n'
        'runpy.run_path(sys.argv[0], run_name="__main__")\n'
    )
    path = f'{nvcc.parent}{os.pathsep}{os.environ["PATH"]}'
    # A GPU that there is not: torch sees none, also where there are some, and nobody wants the CPU.
    env = dict(os.environ, CUDA_HOME=str(tmp_path), PATH=path, CUDA_VISIBLE_DEVICES='99')
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, env=env
    )
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert 'Traceback' not in output
    assert output.count('418.40') == 1 and "CUDA_VISIBLE_DEVICES=''" in output
