"""The GPU check, on a machine that need not have one: it fails what is wrong, and only that."""

import json

import pytest
import torch
from torch import nn

from adpe_mm.evaluation.gpu_check import numerics, rows, runs
from adpe_mm.models.layers import Attention

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def by_status(found):
    found = list(found)
    return {status: [row for row in found if row.status == status] for status in rows.STATUSES}


@pytest.mark.slow
def test_steps_equal_the_cpus():
    found = by_status(numerics.check_steps(DEVICE))
    assert not found['FAIL'] and len(found['PASS']) >= 12


@pytest.mark.slow
def test_kernels_equal_products_in_float64():
    found = by_status(numerics.check_kernels(DEVICE, batch=1))
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
    assert [row.status for row in numerics.check_kernels(DEVICE)] == ['FAIL']


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
    page, data = rows.write_report(found, tmp_path / 'out', dict(device='a device'))
    text = page.read_text()
    assert text.startswith('# GPU check: a device\n') and '2 PASS, 1 FAIL' in text
    assert '| broken | first | PASS | a \\| b |' in text and '**FAIL**' in text
    assert [row['status'] for row in json.loads(data.read_text())['rows']].count('FAIL') == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_no_step_waits_for_the_gpu():
    assert not by_status(numerics.check_waiting('cuda'))['FAIL']
