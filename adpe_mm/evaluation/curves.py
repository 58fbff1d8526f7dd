"""Curves of what training runs logged."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adpe_mm.errors import MissingFile


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
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            if not line.endswith('}'):
                continue  # still being written
            entry = json.loads(line)
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


def plot_curves(runs: dict[str, dict[str, np.ndarray]], keys: list[str]) -> Figure:
    """One panel per scalar, one line per run."""
    figure = Figure(figsize=(6, 2.6 * len(keys)), layout='constrained')
    for axes, key in zip(np.atleast_1d(figure.subplots(len(keys), 1)), keys, strict=True):
        for name, scalars in runs.items():
            if key in scalars:
                marker = 'o' if len(scalars[key]) == 1 else None  # of one value there is no line
                axes.plot(*scalars[key].T, label=name, lw=1.2, marker=marker)
        axes.set(ylabel=key, xlabel='iteration')
        axes.grid(alpha=0.3)
        if len(runs) > 1:
            axes.legend(fontsize=8)
    return figure
