"""What a run needs to go on and no state dict holds, kept in the message hub of its checkpoints."""

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from adpe_mm.checkpoints import unwrap

STATISTICS, SIZES = 'statistics_of_processes', 'random_sizes'


def hand_over(runner: Runner) -> None:
    """Write it down; all processes call it before process 0 saves."""
    hub = runner.message_hub
    mine = [buffer.cpu() for buffer in _statistics(runner)]
    if mine:
        first, *others = all_gather_object(mine)
        differ = any(
            not torch.equal(a, b) for part in others for a, b in zip(first, part, strict=True)
        )
        hub.update_info(STATISTICS, others if differ else [])
    sizes = [resize._input_size for resize in _random_resizes(runner)]
    if sizes:
        hub.update_info(SIZES, sizes)


def take_back(runner: Runner) -> None:
    """Read what `hand_over` has written, in a run that is resumed."""
    hub = runner.message_hub
    others = hub.get_info(STATISTICS) or []
    if get_rank() and len(others) == get_world_size() - 1:
        for buffer, value in zip(_statistics(runner), others[get_rank() - 1], strict=True):
            buffer.copy_(value)
    for resize, size in zip(_random_resizes(runner), hub.get_info(SIZES, []), strict=False):
        resize._input_size = size and tuple(size)


def _statistics(runner: Runner) -> list[Tensor]:
    """Running statistics; without SyncBN they differ between processes."""
    networks = [unwrap(runner.model)]
    networks += [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return [
        buffer
        for network in networks
        for module in network.modules()
        if isinstance(module, _NormBase)
        for buffer in module.buffers(recurse=False)
    ]


def _random_resizes(runner: Runner) -> list[nn.Module]:
    """mmdet's `BatchSyncRandomResize`, each of which draws a size for some iterations to come."""
    modules = unwrap(runner.model).modules()
    return [module for module in modules if type(module).__name__ == 'BatchSyncRandomResize']
