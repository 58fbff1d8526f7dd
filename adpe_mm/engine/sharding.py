"""Fully sharded data parallelism: a process keeps a part of each weight, gradient and moment.

PyTorch's `fully_shard` (FSDP2) does it in place: the network stays the module it was, with the same
names, whose parameters are `DTensor`s. Optimisers, norms of gradients and projections treat these
as the whole tensors that they are parts of. What is left is in this file: which modules are a unit,
whole states for checkpoints, whole states into a sharded network, and whole weights for evaluation.

The states of `torch.distributed.checkpoint.state_dict` would not do: they cut what is loaded before
the network's own hooks, which resize positions, see it; name moments by parameter, where an
unsharded run numbers them; and make an optimiser step, with our hooks on it, to find out which
moments there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial, wraps
from itertools import pairwise
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from adpe_mm.errors import MachineError, UserError
from adpe_mm.models.backbones.adpe_vit import Block
from adpe_mm.version import LIBRARIES, how_to_install

DTYPES = ('float32', 'bfloat16')


@dataclass(frozen=True)
class Sharding:
    """What ``sharding=True``, or a dict of these, in a config stands for.

    Args:
        reshard_after_forward: Whether the weights of a block are given up after its forward, and
            gathered again for its backward: less memory, half as much exchange again.
        param_dtype: 'bfloat16' gathers the weights of blocks in it, and runs blocks under autocast.
            None gathers float32; under autocast backward then keeps a copy of every weight in
            bfloat16.
        reduce_dtype: What gradients are averaged in, 'float32' or 'bfloat16'.
        cpu_offload: Whether weights, gradients and moments are kept, and moved, in the memory of
            the host.
        activation_checkpointing: Whether each block keeps only its input, and computes all else
            again in backward.
        shards: Processes that share one copy of all, such as those of a machine; each such group
            has a copy (HSDP). None for all processes.

    Raises:
        ValueError: For another dtype.
    """

    reshard_after_forward: bool = True
    param_dtype: str | None = None
    reduce_dtype: str = 'float32'
    cpu_offload: bool = False
    activation_checkpointing: bool = False
    shards: int | None = None

    def __post_init__(self) -> None:
        for name, dtype in (
            ('param_dtype', self.param_dtype or 'float32'),
            ('reduce_dtype', self.reduce_dtype),
        ):
            if dtype not in DTYPES:
                raise UserError(f"sharding.{name} must be one of {DTYPES}, got '{dtype}'")

    @classmethod
    def from_config(cls, settings: dict | bool | None) -> 'Sharding | None':
        """Read what a config has under ``sharding``.

        Raises:
            ValueError: For an unknown setting, or something else than settings.
            RuntimeError: If the installed torch is too old.
        """
        if settings is None or settings is False:
            return None
        if settings is not True and not isinstance(settings, dict):
            raise UserError(f"sharding must be True or a dict of its settings, got '{settings}'")
        settings = {} if settings is True else dict(settings)
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise UserError(f'sharding has {unknown}; it may have {known}')
        if not hasattr(FSDPModule, 'set_reshard_after_forward'):
            library = next(library for library in LIBRARIES if library.module == 'torch')
            raise MachineError(
                f'torch {torch.__version__} is too old for sharding, which the tested version has: '
                f'{how_to_install(library)}'
            )
        return cls(**settings)

    def mesh(self) -> DeviceMesh:
        """The processes: those of a group of `shards` follow one another.

        Raises:
            ValueError: If `shards` does not divide their number.
        """
        processes = get_world_size()
        shards = self.shards or processes
        if processes % shards:
            raise UserError(f'sharding.shards={shards} must divide the {processes} processes')
        if shards == processes:
            return init_device_mesh(get_device(), (processes,))
        shape = (processes // shards, shards)
        return init_device_mesh(get_device(), shape, mesh_dim_names=('replicate', 'shard'))

    def shard(self, model: nn.Module) -> None:
        """Shard a network in place: each block is a unit, and all else is another one.

        Args:
            model: With the same weights in all processes.

        Raises:
            ValueError: If it has no block of ours, or `shards` does not fit.
            RuntimeError: If processes cannot exchange what `cpu_offload` keeps on the host.
        """
        blocks = [module for module in model.modules() if isinstance(module, Block)]
        if not blocks:
            raise UserError('sharding finds no block of an AdPEViT in this network: leave it out')
        offload = OffloadPolicy()
        if self.cpu_offload:
            if 'cpu' not in torch.distributed.get_backend_config():
                raise MachineError(
                    'sharding.cpu_offload needs processes that exchange tensors of the host, too: '
                    "set env_cfg.dist_cfg.backend='cpu:gloo,cuda:nccl'"
                )
            offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
        settings = dict(mesh=self.mesh(), offload_policy=offload)
        reduced = getattr(torch, self.reduce_dtype)
        gathered = getattr(torch, self.param_dtype or 'float32')
        # Blocks take what they get: the residual and shifts of positions stay float32.
        policy = MixedPrecisionPolicy(gathered, reduced, cast_forward_inputs=False)
        for block in blocks:
            # Of its `forward` alone: the hooks of a module, which gather weights, stay outside.
            if gathered != torch.float32:
                _compute_in(gathered, block)
            if self.activation_checkpointing:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
            fully_shard(
                block,
                reshard_after_forward=self.reshard_after_forward,
                mp_policy=policy,
                **settings,
            )
        # The adversary and the positions that it moves are in this unit, so never in bfloat16.
        policy = MixedPrecisionPolicy(reduce_dtype=reduced, cast_forward_inputs=False)
        fully_shard(model, reshard_after_forward=False, mp_policy=policy, **settings)
        # What backward gathers ahead is stated. Torch would go by all forwards since the last one,
        # and wait for ever where processes have had different ones in validation.
        for earlier, later in pairwise([model, *blocks, model]):
            later.set_modules_to_backward_prefetch([earlier])
        for module in model.modules():
            # After the module's own, such as the one that resizes positions.
            module.register_load_state_dict_pre_hook(_distribute_loaded)
        model.sharding = self


def _compute_in(dtype: torch.dtype, block: Block) -> None:
    """Run a block whose weights are of a type under autocast to it, in validation too.

    Its norms stay in float32, as on a GPU; autocast on a CPU would not care for them.
    """
    forward = block.forward

    @wraps(forward)
    def cast_forward(*args, **kwargs):
        with torch.autocast(get_device(), dtype):
            return forward(*args, **kwargs)

    block.forward = cast_forward
    for norm in block.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.forward = partial(_normalise, norm)


def _normalise(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)


def is_sharded(model: nn.Module) -> bool:
    """Whether `Sharding.shard` was at work."""
    return isinstance(model, FSDPModule)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor on the device of this process; all processes must call it together."""
    if not isinstance(tensor, DTensor):
        return tensor
    # Offloaded parts go there first, as processes may have nothing to exchange them by on the host.
    return tensor.detach().to(tensor.device_mesh.device_type).full_tensor()


def whole(state: Any) -> Any:
    """A state, however nested, with whole tensors on the CPU instead of parts.

    All processes must call it together; process 0 gets the tensors, others None in their place.
    One tensor at a time is whole on the device.
    """
    if isinstance(state, DTensor):
        tensor = full(state)
        return tensor.cpu() if is_main_process() else None
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        copy = type(state)((name, whole(value)) for name, value in state.items())
        if hasattr(state, '_metadata'):  # the versions of modules, of a state dict
            copy._metadata = state._metadata
        return copy
    if isinstance(state, list | tuple):
        return type(state)(whole(value) for value in state)
    return state


@contextmanager
def standing_in(owner: Any, state: dict) -> Iterator[None]:
    """Have ``owner.state_dict()`` return a state that was made before."""
    owner.state_dict = lambda: state
    try:
        yield
    finally:
        del owner.state_dict


def _distributed(value: Tensor, like: DTensor) -> DTensor:
    """This process's part of a whole tensor, of process 0."""
    value = value.to(like.device_mesh.device_type)
    return distribute_tensor(value, like.device_mesh, like.placements)


def _distribute_loaded(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    for name, param in module.named_parameters(recurse=False):
        value = state_dict.get(prefix + name)
        # Parts are as they should be already, and what is of another shape is for torch to refuse.
        whole_tensor = isinstance(value, Tensor) and not isinstance(value, DTensor)
        if whole_tensor and value.shape == param.shape:
            state_dict[prefix + name] = _distributed(value, param)


def load_whole_moments(optimizer: Optimizer) -> None:
    """Let the optimiser of a sharded network load the state of any run, sharded or not."""
    optimizer.register_load_state_dict_pre_hook(_distribute_moments)


def _distribute_moments(optimizer: Optimizer, state_dict: dict) -> dict:
    params = [param for group in optimizer.param_groups for param in group['params']]
    if len(params) != sum(len(group['params']) for group in state_dict['param_groups']):
        return state_dict  # torch refuses it
    state = {
        number: {
            name: _distributed(value, params[number])
            if isinstance(value, Tensor) and value.shape == params[number].shape
            else value
            for name, value in moments.items()
        }
        for number, moments in state_dict['state'].items()
    }
    return dict(state_dict, state=state)


def gather(model: nn.Module) -> None:
    """Give every process whole weights, until `scatter`; nothing to do without sharding.

    Only then may processes run the network a different number of times: in evaluation, where images
    are cut into different numbers of windows, or where one process draws. All call it together.
    """
    for unit in model.modules():
        if isinstance(unit, FSDPModule):
            unit.unshard()
            unit.set_reshard_after_forward(False, recurse=False)


def scatter(model: nn.Module) -> None:
    """Undo `gather`."""
    for unit in model.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()
            again = unit is not model and model.sharding.reshard_after_forward
            unit.set_reshard_after_forward(again, recurse=False)


class WholeValidationHook(Hook):
    """Validates with whole weights: see `gather`."""

    # In `after_val_epoch` before `EMAHook`, which changes the parts back.
    priority = 'VERY_HIGH'

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if batch_idx == 0:  # after `EMAHook` has changed the parts
            gather(runner.model)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        scatter(runner.model)
