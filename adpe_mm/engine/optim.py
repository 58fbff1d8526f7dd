"""Optimiser groups, mixed precision and schedules.

The network descends and the adversary ascends in one step of one optimiser: the adversary's
parameters form a group with ``maximize=True``.
"""

from collections import defaultdict
from contextlib import AbstractContextManager

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import CosineAnnealingLR as MMEngineCosineAnnealingLR
from mmengine.optim import LinearLR as MMEngineLinearLR
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS
from torch import nn

from adpe_mm.checkpoints import unwrap
from adpe_mm.errors import UserError
from adpe_mm.models.adversaries import Adversary
from adpe_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, PARAM_SCHEDULERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """Puts parameters with equal settings into one group each.

    mmengine's own constructor makes a group for every parameter, which the fused optimiser
    cannot use. Parameters of an `Adversary` go into the ascent group.

    Args:
        optim_wrapper_cfg: Config of the optimiser wrapper, with ``optimizer``.
        paramwise_cfg: May have the keys

            - ``layer_decay_rate`` (float): A parameter at depth d of max_depth learns at
              ``lr * rate ** (max_depth - d)``; depths come from the backbone's
              `get_layer_depth`. 1.0 (one lr for all) by default.
            - ``decay_1d`` (bool): Whether 1-D parameters, which are biases and those of norms,
              have weight decay too. False by default.
            - ``no_decay`` (list[str]): Parts of the names of parameters without weight decay:
              'ln1' stands for all in modules of that name.
            - ``ascent`` (dict): Settings of the ascent group, such as ``lr``. Its weight decay
              is 0 and its lr that of the optimiser by default.

    Raises:
        ValueError: For an unknown key, a missing lr, or an optimiser that cannot maximise.
    """

    KEYS = ('layer_decay_rate', 'decay_1d', 'no_decay', 'ascent')

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = optim_wrapper_cfg
        self.paramwise_cfg = paramwise_cfg or {}
        unknown = set(self.paramwise_cfg) - set(self.KEYS)
        if unknown:
            raise UserError(f'paramwise_cfg has {sorted(unknown)}; it may have {self.KEYS}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser of a model and its wrapper."""
        wrapper_cfg = dict(self.optim_wrapper_cfg)
        optimizer_cfg = dict(wrapper_cfg.pop('optimizer'))
        groups = self.param_groups(model, optimizer_cfg)
        optimizer = OPTIMIZERS.build(dict(optimizer_cfg, params=groups))
        if any(group.get('maximize') for group in groups) and 'maximize' not in optimizer.defaults:
            raise UserError(
                f'{type(optimizer).__name__} has no ascent (maximize=True), which the adversary '
                'needs: use AdamW, Adam or SGD'
            )
        print_log(_table(optimizer.param_groups), logger='current')
        wrapper_cfg.setdefault('type', 'OptimWrapper')
        return MMENGINE_OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=optimizer))

    def param_groups(self, model: nn.Module, optimizer_cfg: dict) -> list[dict]:
        """Groups of a model's trainable parameters, shallow ones first, the ascent group last."""
        if 'lr' not in optimizer_cfg:
            raise UserError('optim_wrapper.optimizer needs an lr')
        lr = optimizer_cfg['lr']
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        no_decay = set(self.paramwise_cfg.get('no_decay', ()))
        decay_1d = self.paramwise_cfg.get('decay_1d', False)
        model = unwrap(model)
        ascending = {
            id(param)
            for module in model.modules()
            if isinstance(module, Adversary)
            for param in module.parameters()
        }
        members = defaultdict(list)
        for name, param in model.named_parameters():
            if not param.requires_grad or id(param) in ascending:
                continue
            depth = num_depths = 0
            if rate != 1:
                depth, num_depths = model.backbone.get_layer_depth(name, 'backbone.')
            decays = (decay_1d or param.ndim > 1) and no_decay.isdisjoint(name.split('.'))
            members[depth, decays].append(param)
        groups = []
        for depth, decays in sorted(members):
            group = dict(params=members[depth, decays])
            if rate == 1:
                group['lr'] = lr
            else:
                group.update(lr=lr * rate ** (num_depths - 1 - depth), depth=depth)
            groups.append(group if decays else dict(group, weight_decay=0.0))
        if ascending:
            adversary = [p for p in model.parameters() if id(p) in ascending and p.requires_grad]
            ascent = dict(lr=lr, weight_decay=0.0, maximize=True)
            groups.append(
                dict(ascent, params=adversary) | dict(self.paramwise_cfg.get('ascent', {}))
            )
        return groups


def _table(groups: list[dict]) -> str:
    """What the optimiser will do, a line a group."""
    lines = ['parameter groups:  depth  tensors  parameters         lr  weight decay']
    for group in groups:
        count = sum(param.numel() for param in group['params'])
        lines.append(
            f'{"ascent" if group.get("maximize") else "descent":>16}  {group.get("depth", ""):>5}  '
            f'{len(group["params"]):7d}  {count:10d}  {group["lr"]:9.3e}  '
            f'{group["weight_decay"]:12g}'
        )
    return '\n'.join(lines)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's `AmpOptimWrapper`, in bfloat16 by default and on a CPU too.

    bfloat16 has float32's range: there is no loss scale, and so no synchronisation to look for
    infinities after each step.

    Args:
        dtype: 'bfloat16'; 'float16', with a loss scale and on a GPU only; or 'float32', which is
            mmengine's plain `OptimWrapper`.
        loss_scale: Of float16, see mmengine.
        **kwargs: See mmengine's `OptimWrapper`.

    Raises:
        ValueError: For another dtype, or float16 without a GPU.
    """

    def __init__(self, dtype: str = 'bfloat16', loss_scale='dynamic', **kwargs) -> None:
        if dtype not in ('bfloat16', 'float16', 'float32'):
            raise UserError(
                f"optim_wrapper.dtype must be 'bfloat16', 'float16' or 'float32', got '{dtype}'"
            )
        if dtype == 'float16':
            if not torch.cuda.is_available():
                raise UserError("optim_wrapper.dtype='float16' needs a GPU: use 'bfloat16'")
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        # Past the parent's __init__, which refuses a CPU.
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler(enabled=False)
        self.cast_dtype = getattr(torch, dtype)

    def optim_context(self, model: nn.Module) -> AbstractContextManager:
        """Autocast, and no exchange of gradients while they accumulate."""
        if self.cast_dtype == torch.float32:
            return OptimWrapper.optim_context(self, model)
        return super().optim_context(model)


class _OnGroups:
    """Lets a schedule act on the network's groups or on the ascent group alone.

    Args:
        groups: 'all', 'descent' or 'ascent'.
    """

    def __init__(self, optimizer, *args, groups: str = 'all', **kwargs) -> None:
        if groups not in ('all', 'descent', 'ascent'):
            raise UserError(f"groups must be 'all', 'descent' or 'ascent', got '{groups}'")
        self.groups = groups
        super().__init__(optimizer, *args, **kwargs)

    def step(self) -> None:
        others = [
            (group, group[self.param_name])
            for group in self.optimizer.param_groups
            if self.groups == ('descent' if group.get('maximize') else 'ascent')
        ]
        super().step()
        for group, value in others:
            group[self.param_name] = value


@PARAM_SCHEDULERS.register_module()
class LinearLR(_OnGroups, MMEngineLinearLR):
    """mmengine's `LinearLR` with ``groups='all' | 'descent' | 'ascent'``."""


@PARAM_SCHEDULERS.register_module()
class CosineAnnealingLR(_OnGroups, MMEngineCosineAnnealingLR):
    """mmengine's `CosineAnnealingLR` with ``groups='all' | 'descent' | 'ascent'``."""
