"""Curves of what training runs logged, and of their probes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from adpe_mm.errors import MissingFile

from .probes.texts import NAMES, RECORDS, scalars


def read_scalars(work_dir: str | Path) -> dict[str, np.ndarray]:
    """All scalars of a run.

    Args:
        work_dir: Folder of the run, with mmengine's logs in ``TIME/vis_data/scalars.json``.

    Returns:
        For each name an array (points, 2) of iteration and value.

    Raises:
        FileNotFoundError: If there is no log.
    """
    points: dict[str, dict[int, float]] = {}
    for entry in _entries(work_dir, '*/vis_data/scalars.json'):
        step = entry.pop('step', None)
        if step is None:
            continue
        for name, value in entry.items():
            points.setdefault(name, {})[step] = value
    if not points:
        raise MissingFile(
            f"there is no log (*/vis_data/scalars.json) in '{work_dir}': is it a work dir, and has "
            'the run got as far as its first entry?'
        )
    return {name: np.array(sorted(values.items())) for name, values in points.items()}


def _entries(work_dir: str | Path, pattern: str) -> Iterator[dict]:
    """Lines of JSON files, the older files first."""
    for path in sorted(Path(work_dir).glob(pattern)):
        for line in path.read_text(encoding='utf-8').splitlines():
            if line.endswith('}'):  # or it is still being written
                yield json.loads(line)


def read_probes(work_dir: str | Path) -> dict[str, np.ndarray]:
    """What the probes of a run found, by `ProbeHook`.

    Args:
        work_dir: Folder of the run.

    Returns:
        For each name, such as 'probe/knn', an array (points, 2) of epoch and value; empty if there
        were no probes.
    """
    records = {record['epoch']: scalars(record) for record in _entries(work_dir, f'*/{RECORDS}')}
    points: dict[str, list] = {}
    for epoch in sorted(records):
        for name, value in records[epoch].items():
            points.setdefault(name, []).append((epoch, value))
    return {name: np.array(values) for name, values in points.items()}


def plot_probes(found: dict[str, np.ndarray]) -> Figure:
    """The probes of one run over its epochs: accuracies, rank, and each block's attention and norm.

    Args:
        found: See `read_probes`.
    """
    panels = {
        'right, %': {NAMES[probe]: f'probe/{probe}' for probe in NAMES},
        'effective rank': {'': 'probe/effective_rank'},
    }
    for title, kind in (('attention, px', 'attention_distance'), ('norm of a patch', 'token_norm')):
        blocks = sorted(name for name in found if name.startswith(f'probe/{kind}/'))
        panels[title] = {f'block {i}': name for i, name in enumerate(blocks)}
    figure = Figure(figsize=(11, 6), layout='constrained')
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        drawn = {label: name for label, name in lines.items() if name in found}
        for i, (label, name) in enumerate(drawn.items()):
            # Of many blocks the colours say the order.
            colour = f'C{i}' if len(drawn) <= 4 else _shade(i / (len(drawn) - 1))
            axes.plot(*found[name].T, label=label, lw=1.4, marker='o', ms=3, color=colour)
        axes.set(ylabel=title, xlabel='epoch')
        axes.grid(alpha=0.3)
        if len(drawn) > 1:
            axes.legend(fontsize=7, ncols=1 + len(drawn) // 7)
    return figure


def _shade(fraction: float) -> tuple[float, ...]:
    return colormaps['viridis'](0.9 * fraction)


def plot_curves(
    runs: dict[str, dict[str, np.ndarray]], keys: list[str], unit: str = 'iteration'
) -> Figure:
    """One panel per scalar, one line per run, over iterations or another unit."""
    figure = Figure(figsize=(6, 2.6 * len(keys)), layout='constrained')
    for axes, key in zip(np.atleast_1d(figure.subplots(len(keys), 1)), keys, strict=True):
        for name, logged in runs.items():
            if key in logged:
                marker = 'o' if len(logged[key]) == 1 else None  # of one value there is no line
                axes.plot(*logged[key].T, label=name, lw=1.2, marker=marker)
        axes.set(ylabel=key, xlabel=unit)
        axes.grid(alpha=0.3)
        if len(runs) > 1:
            axes.legend(fontsize=8)
    return figure
