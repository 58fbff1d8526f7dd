"""Full precision where the operators of a library know no bfloat16."""

import re
from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils._pytree import tree_map_only

from adpe_mm.checkpoints import unwrap
from adpe_mm.registry import HOOKS


def _to_float32(values):
    return tree_map_only(
        torch.Tensor,
        lambda t: t.float() if t.dtype in (torch.bfloat16, torch.float16) else t,
        values,
    )


@HOOKS.register_module()
class Float32Hook(Hook):
    """Hands float32 tensors to and from some modules in mixed precision.

    mmcv's non-maximum suppression and RoIAlign take no bfloat16, which also has too few digits for
    the corners of boxes. What happens inside of the modules, their convolutions, stays in it.

    Args:
        inputs: Regular expressions of whole names of the modules whose inputs are converted.
        outputs: Of those whose outputs are.

    Raises:
        ValueError: If an expression fits no module of the network.
    """

    def __init__(self, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)

    def before_train(self, runner: Runner) -> None:
        modules = dict(unwrap(runner.model).named_modules())
        for pattern in self.inputs:
            for module in _matching(modules, pattern):
                module.register_forward_pre_hook(lambda module, args: _to_float32(args))
        for pattern in self.outputs:
            for module in _matching(modules, pattern):
                module.register_forward_hook(lambda module, args, output: _to_float32(output))


def _matching(modules: dict[str, torch.nn.Module], pattern: str) -> list[torch.nn.Module]:
    found = [module for name, module in modules.items() if re.fullmatch(pattern, name)]
    if not found:
        raise ValueError(f"Float32Hook: no module of the network is called '{pattern}'")
    return found
