"""Validation and tests in TF32, where a GPU has it."""

import torch
from mmengine.device import is_cuda_available
from mmengine.hooks import Hook
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class TF32EvaluationHook(Hook):
    """Lets products of float32 matrices be done in TF32 while a network is validated or tested.

    mmengine evaluates in float32, whatever the training's precision, and PyTorch leaves the tensor
    cores of a GPU to convolutions alone. TF32 keeps as many bits of a number as the float16 that
    MAE evaluates in (its `engine_finetune.py`), and float32's range. Training stays as it is:
    rounded weights would hide small shifts of positions. Without a GPU nothing changes.

    ``default_hooks.tf32=None`` in a config, or on the command line, evaluates in float32;
    ``val_cfg.fp16=True`` and ``test_cfg.fp16=True``, of mmengine, in float16.
    """

    def before_val(self, runner: Runner) -> None:
        self.before = torch.get_float32_matmul_precision()
        if is_cuda_available() and self.before == 'highest':
            torch.set_float32_matmul_precision('high')
            runner.logger.info('evaluated in TF32 (default_hooks.tf32=None: in float32)')

    def after_val(self, runner: Runner) -> None:
        torch.set_float32_matmul_precision(self.before)

    before_test, after_test = before_val, after_val
