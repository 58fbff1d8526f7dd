"""Memory and speed of whole steps, beside what was planned and beside the plain formulation."""

import argparse
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.profiler import ProfilerActivity, profile

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.engine.hooks.compile import compile_blocks
from adpe_mm.registry import MODELS

from .. import speed
from ..input_speed import benchmark_input
from ..memory import memory_of
from ..timing import alternate, matmul_peak, medians
from ..workload import example, forward
from .rows import Row, verdict


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def check_peak(device: str) -> Iterator[Row]:
    """The machine's own matrix products."""
    for dtype in ('float32', 'bfloat16', *(['float16'] * (device == 'cuda'))):
        peak = matmul_peak(getattr(torch, dtype), device, None if device == 'cuda' else 512)
        yield Row('products', dtype, 'measured', f'{peak / 1e12:.3g} TFLOP/s')


def check_pretraining(archs: dict[str, int], repeats: int, compiled: bool) -> Iterator[Row]:
    """Steps of pretraining: ours, compiled, and plain, in turns, each in a process of its own.

    Args:
        archs: Images per step of each architecture.
        repeats: Turns.
        compiled: Whether also to compile.
    """
    for arch, batch in archs.items():
        args = argparse.Namespace(
            arch=arch, batch=batch, crops=4, img_size=112, variants=['ape', 'rpe-coord'],
            dtypes=['bfloat16'], baseline_dtype=None, repeats=repeats, warmup=2, inner=3,
            compile=compiled,
        )  # fmt: skip
        for row in speed.step(args)['rows']:
            yield Row(
                'pretraining',
                f'ViT-{arch.upper()}, {batch} images, {row["candidate"]}',
                'measured',
                f'{row["images_per_second"]:.4g} images/s, {row["ratio_to_plain"]:.2f} x plain, '
                f'{100 * row["share_of_peak"]:.0f} % of the products',
            )


def build(cfg: Config, device: str) -> torch.nn.Module:
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.to(device).train()


def step_of(cfg: Config, model: torch.nn.Module, inputs: torch.Tensor) -> Callable[[], None]:
    """A step of backbone, neck and dense heads, without matching, sampling and losses of boxes."""
    wrapper = LayerDecayOptimWrapperConstructor(copy.deepcopy(cfg.optim_wrapper))(model)

    def step() -> None:
        with wrapper.optim_context(model):
            loss = forward(model, inputs)
        wrapper.update_params(loss)

    return step


def check_tasks(configs: list[Path], device: str, repeats: int) -> Iterator[Row]:
    """Speed and memory of each config's step at its own batch, eager and compiled.

    Memory is compared with the plan's (`tools/analysis_tools/plan_run.py`): PASS within 15 %.
    """
    for path in configs:
        cfg = Config.fromfile(path)
        cfg.optim_wrapper.accumulative_counts = 1
        batch = cfg.train_dataloader.batch_size
        plan = memory_of(cfg, gpus=1).total
        try:
            if device == 'cuda':
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            model = build(cfg, device)
            step = step_of(cfg, model, example(cfg, batch).to(device))
            candidates = {'eager': step}
            seconds = medians(alternate(candidates, repeats, warmup=2))
            if device == 'cuda':
                peak = torch.cuda.max_memory_allocated()
                near = abs(peak / plan - 1) <= 0.15
                value = f'{peak / 1e9:.1f} GB, planned {plan / 1e9:.1f} GB'
                yield verdict('memory', f'{path.stem}, {batch} images', near, value)
            else:
                yield Row('memory', path.stem, 'skipped', f'planned {plan / 1e9:.1f} GB; no GPU')
            compile_blocks(model)
            seconds |= medians(alternate({'compiled': step}, repeats, warmup=3))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            yield Row('tasks', path.stem, 'skipped', f'{batch} images do not fit')
            continue
        for kind, spent in seconds.items():
            value = f'{1e3 * spent:.0f} ms per step, {batch / spent:.4g} images/s'
            yield Row('tasks', f'{path.stem}, {batch} images, {kind}', 'measured', value)


def check_operations(device: str, arch: str, batch: int, top: int = 10) -> Iterator[Row]:
    """What a step's time goes to: the operators with most time of their own."""
    model = speed.build_model(arch, 'rpe-coord', 112)
    images = torch.randn(4 * batch, 3, 112, 112, device=device)
    step = speed.OurStep(model, images, 'bfloat16')
    step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == 'cuda')
    with profile(activities=activities) as prof:
        for _ in range(3):
            step()
    key = 'self_device_time_total' if device == 'cuda' else 'self_cpu_time_total'
    events = sorted(prof.key_averages(), key=lambda event: getattr(event, key), reverse=True)
    total = sum(getattr(event, key) for event in events)
    for event in events[:top]:
        share = 100 * getattr(event, key) / total
        yield Row(
            'operations', event.key, 'measured', f'{share:.1f} %, {event.count // 3} per step'
        )


def check_loader(repeats: int, workers: list[int]) -> Iterator[Row]:
    """From files to batches of four crops."""
    args = argparse.Namespace(
        folder=None, images=100, size=(500, 375), kilobytes=57.0, crop=112, reducing_gap=1.5,
        batch_size=50, workers=workers, repeats=repeats, warmup=1,
    )  # fmt: skip
    for row in benchmark_input(args)['rows']:
        value = f'{row["images_per_second"]:.4g} images/s, {row["times_plain"]:.2f} x plain'
        yield Row('loader', row['candidate'], 'measured', value)
