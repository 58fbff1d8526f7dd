"""A moving average of the weights that counts optimiser steps, and can be sharded."""

from mmengine.hooks import EMAHook as MMEngineEMAHook
from mmengine.runner import Runner

from adpe_mm.engine.sharding import Sharding
from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class EMAHook(MMEngineEMAHook):
    """mmengine's `EMAHook`, which moves on with each step of the optimiser.

    mmengine counts iterations: where gradients accumulate over several of them, its average
    forgets that many times as fast as ``momentum`` says.
    """

    ema_model = None

    def before_run(self, runner: Runner) -> None:
        """Copy the network, unless that was done before it was sharded, and could not be now."""
        if self.ema_model is None:
            super().before_run(runner)

    def shard(self, sharding: Sharding) -> None:
        """Shard the average as the network."""
        average = self.ema_model
        sharding.shard(average.module)
        average.avg_parameters = (
            average.module.state_dict()
            if average.update_buffers
            else dict(average.module.named_parameters())
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
