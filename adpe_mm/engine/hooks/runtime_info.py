"""Losses without waiting for the device."""

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's `RuntimeInfoHook`, which reads losses from the device only when they are logged.

    mmengine's turns every loss of every iteration into a number, for which the host waits until
    the device has done all it was given; the next iteration is then launched onto an idle device.
    Here the losses stay tensors until the logger writes (or an epoch ends, or a checkpoint is
    saved), and are read all at once. What is logged is the same.
    """

    def __init__(self) -> None:
        self.pending: list[tuple[str, torch.Tensor | float]] = []

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        loggers = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        self.interval = min((logger.interval for logger in loggers), default=1)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        for key, value in (outputs or {}).items():
            value = value.detach() if torch.is_tensor(value) else value
            self.pending.append((f'train/{key}', value))
        if (
            self.every_n_inner_iters(batch_idx, self.interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or self.is_last_train_iter(runner)
        ):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.pending:  # stopped by a signal, between two logs
            self._read(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def _read(self, runner: Runner) -> None:
        tensors = [
            value.reshape(()).double() for _, value in self.pending if torch.is_tensor(value)
        ]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        for key, value in self.pending:
            runner.message_hub.update_scalar(
                key, next(numbers) if torch.is_tensor(value) else value
            )
        self.pending.clear()
