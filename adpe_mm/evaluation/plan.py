"""What a training takes: operations, memory, loader cores, hours, and what limits it."""

import argparse
import math
from dataclasses import dataclass

from mmengine.config import Config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adpe_mm.errors import UserError

from .memory import imagined, memory_of
from .workload import example, forward

IMAGES = {'ImageNet': 1281167, 'Images': 1281167, 'ADE20KDataset': 20210, 'CocoDataset': 117266}


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


def count_operations(cfg: Config) -> float:
    """Operations of forward and backward of one image, on imagined tensors."""
    # Attention as products of matrices: other kernels of a CPU are not counted.
    products, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False)
    with imagined(cfg, 'cpu') as model, products, counter:
        forward(model, example(cfg, 2)).backward()  # UPerNet's BN of one pixel needs two images
    return counter.get_total_flops() / 2


def make_plan(cfg: Config, args: argparse.Namespace) -> Plan:
    """All numbers of a config on some machines.

    Raises:
        ValueError: If no speed is given, or the number of images is not known.
    """
    kind = cfg.train_dataloader.dataset.type.split('.')[-1]
    images = args.images or IMAGES.get(kind)
    if images is None:
        raise UserError(f'--images must say how many images a {kind} has')
    operations = count_operations(cfg)
    with imagined(cfg) as model:
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)

    if args.images_per_second:
        speed = args.images_per_second
    elif args.peak_tflops:
        speed = args.share * args.peak_tflops * 1e12 / operations
    else:
        raise UserError('give the speed of one GPU: --images-per-second, or --peak-tflops')
    per_gpu = cfg.train_dataloader.batch_size
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    memory = memory_of(cfg, args.gpus)

    batch = per_gpu * args.gpus
    exchanged = 2 * 4 * parameters * (args.gpus - 1) / args.gpus  # ring: reduce, then spread
    seconds = dict(
        compute=per_gpu * accumulated / speed,
        loading=per_gpu * accumulated / (args.cores * args.loader_images_per_second),
        exchange=exchanged / (args.bandwidth * 1e9),
    )
    limit = max(seconds, key=seconds.get)
    if memory.total > args.memory * 1e9:
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
        memory_gb=memory.total / 1e9,
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
