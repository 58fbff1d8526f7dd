"""torch.compile as an option of any config."""

import time

import torch
import torch._dynamo
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from adpe_mm.errors import UserError
from adpe_mm.models.backbones.adpe_vit import Block
from adpe_mm.registry import HOOKS


def compile_blocks(model: nn.Module, **options) -> int:
    """Have every transformer block compiled when it is first called.

    Args:
        model: With blocks of ours anywhere in it.
        **options: Of `torch.compile`.

    Returns:
        How many blocks there are.

    Raises:
        ValueError: If there is none.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if not blocks:
        raise UserError('compile=True finds no block of an AdPEViT in this network: leave it out')
    for block in blocks:
        # Not the module: its hooks, by which sharding gathers weights, are not to be compiled.
        block.forward = torch.compile(block.forward, **options)
    return len(blocks)


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles every transformer block in place, and logs how long that took.

    What ``compile=True`` in a config stands for (``--cfg-options compile=True``, or a dict of
    options of `torch.compile`, such as ``mode='max-autotune-no-cudagraphs'``). Blocks alone,
    because all have the same code: it is compiled once for all of an encoder, in less time than a
    whole network takes, and DDP, sharding, checkpoints and activation checkpointing never notice.
    Results are those of the plain network to rounding, not bit for bit; resume a run with what it
    began with.

    Args:
        warmup: Iterations after which the log says how long compiling took; at least 2.
        **options: Of `torch.compile`.

    Raises:
        ValueError: From `before_train`, if the network has no block of ours.
    """

    priority = 'LOW'

    def __init__(self, warmup: int = 3, **options) -> None:
        self.warmup = warmup
        self.options = options

    def before_train(self, runner: Runner) -> None:
        # Else torch cuts each graph where a bucket of DDP's, of 25 MB, ends, for gradients to be
        # exchanged in the middle of it. A graph here is one block, of 28 MB in ViT-B and 79 in H,
        # and its gradients are exchanged while the next one's are computed. With two processes
        # over gloo 4 blocks of B, cut into 5 pieces or whole in 2 graphs, took the same time.
        torch._dynamo.config.optimize_ddp = False
        number = compile_blocks(runner.model, **self.options)
        runner.logger.info(
            f'{number} blocks will be compiled in the first iterations, which take longer'
        )
        self.durations: list[float] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self.start = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if len(self.durations) == self.warmup:
            return
        for value in (outputs or {}).values():
            if hasattr(value, 'item'):
                value.item()  # waits for the device
                break
        self.durations.append(time.perf_counter() - self.start)
        if len(self.durations) == self.warmup:
            *first, last = self.durations
            times = ', '.join(f'{duration:.1f}' for duration in self.durations)
            runner.logger.info(
                f'compiled: the first {self.warmup} iterations took {times} s, '
                f'{sum(first) - last * len(first):.1f} s of them for compiling'
            )
