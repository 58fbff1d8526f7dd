"""Timing one thing against another in one run, as a machine's speed changes from run to run."""

import statistics
import time
from collections.abc import Callable

import torch


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(
    candidates: dict[str, Callable[[], object]], repeats: int, warmup: int = 1, inner: int = 1
) -> dict[str, list[float]]:
    """Time functions in turn, so that all of them see the same moods of the machine.

    Args:
        candidates: Functions by name.
        repeats: How often each is timed.
        warmup: Calls of each before that.
        inner: Calls that one timing covers.

    Returns:
        Seconds per call, one for each repeat.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(warmup + repeats):
        for name, function in candidates.items():
            synchronize()
            start = time.perf_counter()
            for _ in range(inner):
                function()
            synchronize()
            if repeat >= warmup:
                seconds[name].append((time.perf_counter() - start) / inner)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median of each candidate."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(seconds: dict[str, list[float]], of: str, to: str) -> float:
    """How many times as fast one is as another: the median over timings that were neighbours."""
    pairs = zip(seconds[to], seconds[of], strict=True)
    return statistics.median(other / one for other, one in pairs)


def matmul_peak(dtype: torch.dtype, device: str, size: int | None = None) -> float:
    """Floating-point operations per second of a large square matrix product, the best of several.

    Args:
        dtype: Of the matrices.
        device: Where.
        size: Rows; 8192 on a GPU and 2048 on a CPU by default.
    """
    size = size or (8192 if device == 'cuda' else 2048)
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    seconds = alternate({'matmul': lambda: a @ b}, repeats=7, warmup=3)['matmul']
    return 2 * size**3 / min(seconds)
