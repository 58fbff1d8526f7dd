"""The GPU check, on a machine that need not have one: it fails what is wrong, and only that."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adpe_mm.evaluation import gpu_check
from adpe_mm.evaluation.gpu_check import numerics, rows, runs
from adpe_mm.models.layers import Attention

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'gpu_check.py'
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU that torch sees'),
]
DEVICES = [pytest.param('cpu', marks=pytest.mark.slow), pytest.param('cuda', marks=GPU)]


def by_status(found):
    found = list(found)
    return {status: [row for row in found if row.status == status] for status in rows.STATUSES}


@pytest.mark.parametrize('device', DEVICES)
def test_steps_equal_the_cpus(device):
    found = by_status(numerics.check_steps(device))
    assert not found['FAIL'], found['FAIL']
    assert len(found['PASS']) >= 12


@pytest.mark.parametrize('device', DEVICES)
def test_kernels_equal_products_in_float64(device):
    found = by_status(numerics.check_kernels(device, batch=1))
    assert not found['FAIL'], found['FAIL']
    assert {row.case for row in found['PASS']} == set(numerics.LAYERS)


def test_a_wrong_kernel_fails(monkeypatch):
    right = Attention.forward

    def forgetful(self, x, grid_size, perturbation=None):
        out = right(self, x, grid_size, perturbation)
        return out * 1.2 if x.dtype == torch.float32 else out  # not in the float64 reference

    monkeypatch.setattr(Attention, 'forward', forgetful)
    monkeypatch.setattr(
        numerics, 'LAYERS', {'absolute, 50 tokens': numerics.LAYERS['absolute, 50 tokens']}
    )
    assert [row.status for row in numerics.check_kernels('cpu')] == ['FAIL']


def test_wrong_steps_fail(monkeypatch):
    real = numerics.train
    calls = iter(range(100))

    def drifting(model, device, dtype, loss_scale='dynamic'):
        result = real(model, device, dtype, loss_scale)
        if next(calls):  # the first is the reference
            result['losses'] = result['losses'] * torch.linspace(1, 1.1, numerics.STEPS)
        return result

    monkeypatch.setattr(numerics, 'train', drifting)
    monkeypatch.setattr(numerics, 'VARIANTS', {'ape': ('ape', None)})
    found = by_status(numerics.check_steps('cpu'))
    assert len(found['FAIL']) == 2 and not found['PASS'], found


def test_differences_are_those_of_weights():
    a = dict(w=torch.tensor([1.0, 2.0]), n=torch.tensor(3))
    assert runs.difference(a, a) == 0
    assert runs.difference(dict(a, w=torch.tensor([1.0, 2.5])), a) == pytest.approx(0.25)


def test_a_check_that_raises_is_a_fail_and_others_still_run(tmp_path):
    def broken():
        yield rows.Row('broken', 'first', 'PASS', 'a | b')
        nn.Linear(2, 3)(torch.zeros(1, 5))

    def whole():
        yield rows.verdict('whole', 'x', 1 < 2, 'yes')

    found = rows.run_checks(dict(broken=broken, whole=whole), lambda line: None)
    assert [row.status for row in found if row.case != 'time'] == ['PASS', 'FAIL', 'PASS']
    about = dict(device='a device', driver='1.2', versions=dict(torch='3'), date='2026-01-02')
    page, data = rows.write_report(found, tmp_path / 'out', dict(about, quick=True))
    text = page.read_text()
    assert 'a device; driver 1.2; torch 3; 2026-01-02: 2 PASS, 1 FAIL, 2 measured' in text
    assert '| broken | first | PASS | a \\| b |' in text and '**FAIL**' in text
    assert [row['status'] for row in json.loads(data.read_text())['rows']].count('FAIL') == 1
    done = subprocess.run(
        [sys.executable, TOOL, '--markdown', data], capture_output=True, text=True
    )
    assert text == f'# GPU check\n\n{done.stdout}'
    data.write_text('{}')
    with pytest.raises(ValueError, match='is no report of gpu_check.py'):
        rows.read_report(data)


def test_the_page_has_the_newest_report():
    """docs/speed.md shows the report of a GPU, or says that there is none."""
    section = (ROOT / 'docs' / 'speed.md').read_text().split('## On a GPU\n')[1].split('\n## ')[0]
    reports = sorted((ROOT / 'docs' / 'benchmarks').glob('*gpu_check*.json'))
    if not reports:
        assert 'Not run.' in section and '|---|' not in section
        return
    assert rows.as_markdown(*rows.read_report(reports[-1])) in section


def test_without_a_gpu_each_part_runs_or_says_why_not(monkeypatch):
    """The short form: one variant, one layer, and no runs of the commands."""
    monkeypatch.setattr(numerics, 'VARIANTS', {'ape': ('ape', None)})
    one_layer = {'absolute, 50 tokens': numerics.LAYERS['absolute, 50 tokens']}
    monkeypatch.setattr(numerics, 'LAYERS', one_layer)
    for left_out in ('check_loader', 'check_resume'):
        monkeypatch.setattr(gpu_check, left_out, lambda *_: iter(()))
    said = []
    found = by_status(gpu_check.run_all(ROOT, quick=True, say=said.append))
    assert not found['FAIL'] and len(found['PASS']) == 3, found  # two precisions and a kernel
    why = {row.check: row.value for row in found['skipped']}
    assert why.keys() == {
        'steps', 'waiting', 'pretraining', 'tasks', 'operations', 'processes',
    }  # fmt: skip
    assert all('GPU' in value for value in why.values()) and len(said) >= 11


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU that torch sees')
def test_no_step_waits_for_the_gpu():
    assert not by_status(numerics.check_waiting('cuda'))['FAIL']


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU that torch sees')
def test_the_quick_check_passes(tmp_path):
    done = subprocess.run(
        [sys.executable, TOOL, '--quick', '--out', tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
