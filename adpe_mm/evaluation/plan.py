"""What a training takes: operations, memory, loader cores, hours, and what limits it."""

import argparse
import math
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import to_2tuple
from torch.utils.flop_counter import FlopCounterMode

from adpe_mm.datasets import first_pipeline
from adpe_mm.engine.sharding import Sharding
from adpe_mm.errors import UserError
from adpe_mm.models.layers import irpe_kernels
from adpe_mm.registry import MODELS

IMAGES = {'ImageNet': 1281167, 'Images': 1281167, 'ADE20KDataset': 20210, 'CocoDataset': 117266}
BYTES_PER_PARAMETER = 16  # float32: weight, gradient, two moments of AdamW


@dataclass
class Plan:
    """A training in numbers.

    Attributes:
        gflop_per_image: Forward and backward, multiplications and additions counted apart.
        images: Images of the data set.
        parameters: That are trained.
        memory_gb: Of one GPU: weights, gradients, moments, activations.
        images_per_step: Of one optimiser step, over all GPUs.
        steps: Optimiser steps.
        seconds: A step takes the longest of these, as they overlap: compute, loading, and the
            exchange of gradients.
        limit: Which one that is, or 'memory' if the batch does not fit.
        loader_cores: That one GPU needs to be fed.
        hours: Of the whole training.
        gpu_hours: Of all GPUs.
    """

    gflop_per_image: float
    images: int
    parameters: int
    memory_gb: float
    images_per_step: int
    steps: int
    seconds: dict[str, float]
    limit: str
    loader_cores: float
    hours: float
    gpu_hours: float


def example(cfg: Config, images: int) -> torch.Tensor:
    """Input of some images, as the network gets them in training."""
    channels = cfg.model.backbone.get('in_channels', 3)
    for transform in first_pipeline(cfg.train_dataloader.dataset):
        if transform['type'].endswith('MultiCrop'):
            size = to_2tuple(transform['size'])
            return torch.randn(images * transform['num_crops'], channels, *size)
    return torch.randn(images, channels, *to_2tuple(cfg.model.backbone.img_size))


def forward(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """A scalar that depends on all that is computed for a loss."""
    if hasattr(model, 'predict_patches'):
        return model.loss(inputs)['loss']
    outs = model(inputs) if hasattr(model, 'head') else model.backbone(inputs)
    if hasattr(model, 'decode_head'):
        outs = model.neck(outs)
        outs = [model.decode_head(outs), model.auxiliary_head(outs)]
    elif hasattr(model, 'rpn_head'):
        outs = model.neck(outs)
    outs = [outs] if torch.is_tensor(outs) else outs
    return sum(out.float().mean() for out in outs)


def count_operations(cfg: Config, model: torch.nn.Module) -> float:
    """Operations of forward and backward of one image."""
    with FlopCounterMode(display=False) as counter:
        loss = forward(model, example(cfg, 2))  # UPerNet's BN of one pixel needs two images
        loss.backward()
    return counter.get_total_flops() / 2


def activation_bytes(cfg: Config, model: torch.nn.Module, images: int) -> int:
    """Bytes that forward keeps for backward, in the precision of the config."""
    kept = {}
    weights = {param.untyped_storage().data_ptr() for param in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    dtype = getattr(torch, cfg.optim_wrapper.get('dtype', 'float32'))
    inputs = example(cfg, images)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast('cpu', dtype, enabled=dtype != torch.float32),
    ):
        loss = forward(model, inputs)  # alive until its tensors are counted
    total = sum(kept.values())
    del loss
    return total


def make_plan(cfg: Config, args: argparse.Namespace) -> Plan:
    """All numbers of a config on some machines.

    Raises:
        ValueError: If no speed is given, or the number of images is not known.
    """
    kind = cfg.train_dataloader.dataset.type.split('.')[-1]
    images = args.images or IMAGES.get(kind)
    if images is None:
        raise UserError(f'--images must say how many images a {kind} has')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    irpe_kernels.MAX_PRODUCT_TOKENS = 0  # the kernel that a GPU uses keeps no matrix of attention
    operations = count_operations(cfg, model)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)

    if args.images_per_second:
        speed = args.images_per_second
    elif args.peak_tflops:
        speed = args.share * args.peak_tflops * 1e12 / operations
    else:
        raise UserError('give the speed of one GPU: --images-per-second, or --peak-tflops')
    per_gpu = cfg.train_dataloader.batch_size
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    two, three = (activation_bytes(cfg, model, n) for n in (2, 3))
    shards = 1
    if (sharding := Sharding.from_config(cfg.get('sharding'))) is not None:
        shards = sharding.shards or args.gpus
    memory = parameters * BYTES_PER_PARAMETER / shards + two + (per_gpu - 2) * (three - two)

    batch = per_gpu * args.gpus
    exchanged = 2 * 4 * parameters * (args.gpus - 1) / args.gpus  # ring: reduce, then spread
    seconds = dict(
        compute=per_gpu * accumulated / speed,
        loading=per_gpu * accumulated / (args.cores * args.loader_images_per_second),
        exchange=exchanged / (args.bandwidth * 1e9),
    )
    limit = max(seconds, key=seconds.get)
    if memory > args.memory * 1e9:
        limit = 'memory'
    if 'max_epochs' in cfg.train_cfg:
        micro = cfg.train_cfg.max_epochs * (images // batch)
    else:
        micro = cfg.train_cfg.max_iters
    steps = math.ceil(micro / accumulated)
    hours = steps * max(seconds.values()) / 3600
    return Plan(
        gflop_per_image=operations / 1e9,
        images=images,
        parameters=parameters,
        memory_gb=memory / 1e9,
        images_per_step=batch * accumulated,
        steps=steps,
        seconds=seconds,
        limit=limit,
        loader_cores=speed / args.loader_images_per_second,
        hours=hours,
        gpu_hours=hours * args.gpus,
    )


def describe_plan(plan: Plan, args: argparse.Namespace) -> str:
    """The plan as text."""
    advice = {
        'compute': 'the GPUs: more of them, or torch.compile',
        'loading': f'the loader: {plan.loader_cores:.0f} cores per GPU would keep up',
        'exchange': 'the exchange of gradients: accumulate more, or a faster network',
        'memory': f'memory: {plan.memory_gb:.0f} GB where there are {args.memory:g}; lower '
        'train_dataloader.batch_size, or accumulate, or set with_cp',
    }
    lines = [
        f'operations         {plan.gflop_per_image:,.1f} GFLOP per image, forward and backward',
        f'images           {plan.images:,} (--images)',
        f'parameters         {plan.parameters / 1e6:.1f} M trained',
        f'memory per GPU     {plan.memory_gb:.1f} GB, and what context and fragments take',
        f'optimiser step     {plan.images_per_step} images; {plan.steps} steps',
        *(f'  {name:<16} {spent * 1e3:,.0f} ms' for name, spent in plan.seconds.items()),
        f'limited by         {advice[plan.limit]}',
        f'loader             {plan.loader_cores:.1f} cores per GPU',
        f'duration           {plan.hours:,.1f} hours, {plan.gpu_hours:,.0f} GPU-hours',
    ]
    return '\n'.join(lines)
