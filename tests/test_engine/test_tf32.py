"""Validation may use TF32, training may not."""

import pytest
import torch
from mmengine.hooks import Hook

from adpe_mm.engine.hooks import tf32
from tests.test_engine.toy import draw, make_runner


class Precisions(Hook):
    priority = 'LOWEST'

    def __init__(self):
        self.found = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.found.setdefault('train', set()).add(torch.get_float32_matmul_precision())

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.found.setdefault('val', set()).add(torch.get_float32_matmul_precision())


@pytest.mark.parametrize('gpu, during', [(True, 'high'), (False, 'highest')])
def test_only_validation_on_a_gpu(tmp_path, monkeypatch, gpu, during):
    monkeypatch.setattr(tf32, 'is_cuda_available', lambda: gpu)
    options = {
        'custom_hooks': [dict(type='adpe_mm.TF32EvaluationHook')],
        'val_cfg': dict(type='ValLoop'),
        'val_evaluator': [],
        'train_cfg': dict(type='adpe_mm.ExactEpochTrainLoop', max_epochs=2, val_interval=1),
    }
    runner = make_runner(tmp_path / 'run', draw(tmp_path / 'data'), options=options, validates=True)
    hook = Precisions()
    runner.register_hook(hook)
    runner.train()
    assert hook.found == dict(train={'highest'}, val={during})
    assert torch.get_float32_matmul_precision() == 'highest'


def test_what_a_user_set_stays(monkeypatch):
    monkeypatch.setattr(tf32, 'is_cuda_available', lambda: True)
    torch.set_float32_matmul_precision('medium')
    try:
        hook = tf32.TF32EvaluationHook()
        hook.before_test(None)
        hook.after_test(None)
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
