"""A moving average of the weights that counts optimiser steps."""

from mmengine.hooks import EMAHook as MMEngineEMAHook
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class EMAHook(MMEngineEMAHook):
    """mmengine's `EMAHook`, which moves on with each step of the optimiser.

    mmengine counts iterations: where gradients accumulate over several of them, its average
    forgets that many times as fast as ``momentum`` says.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
