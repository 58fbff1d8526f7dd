#!/usr/bin/env python
"""Plot what training runs logged: loss, lr, the adversary, or any other scalar.

    python tools/analysis_tools/plot_curves.py WORK_DIR... [--keys loss lr] [--out curves.png]

Several runs are laid over one another. A run that was resumed has several logs: the later one
counts where they overlap.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adpe_mm.launch import one_sentence_errors


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
        raise FileNotFoundError(
            f"there is no log (*/vis_data/scalars.json) in '{work_dir}': is it a work dir, and has "
            'the run got as far as its first entry?'
        )
    return {name: np.array(sorted(values.items())) for name, values in points.items()}


def plot(runs: dict[str, dict[str, np.ndarray]], keys: list[str]) -> Figure:
    """One panel a scalar, one line a run."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('work_dirs', nargs='+', help='folders of runs')
    parser.add_argument(
        '--keys', nargs='+', help='scalars; by default loss, lr and all of the adversary'
    )
    parser.add_argument('--out', default='curves.png', help='picture to write')
    args = parser.parse_args()
    runs = {Path(folder).name: read_scalars(folder) for folder in args.work_dirs}
    logged = {name for scalars in runs.values() for name in scalars}
    keys = args.keys or ['loss', 'lr', *sorted(n for n in logged if n.startswith('adversary/'))]
    missing = [key for key in keys if key not in logged]
    if missing:
        raise ValueError(f'no run logged {missing}; there are {sorted(logged)}')
    plot(runs, keys).savefig(args.out, dpi=110)
    for name, scalars in runs.items():
        ends = [
            f'{k} {scalars[k][0, 1]:.4g} -> {scalars[k][-1, 1]:.4g}' for k in keys if k in scalars
        ]
        print(f'{name}: {", ".join(ends)}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('plot_curves'):
        sys.exit(main())
