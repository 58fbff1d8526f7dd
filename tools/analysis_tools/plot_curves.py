#!/usr/bin/env python
"""Plot what training runs logged: loss, lr, the adversary, or any other scalar.

    python tools/analysis_tools/plot_curves.py WORK_DIR... [--keys loss lr] [--out curves.png]
    python tools/analysis_tools/plot_curves.py WORK_DIR... --probes    # of ProbeHook, over epochs

Several runs are laid over one another. A run that was resumed has several logs: the later one
counts where they overlap.
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.errors import UserError
from adpe_mm.evaluation.curves import plot_curves, read_probes, read_scalars
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('work_dirs', nargs='+', help='folders of runs')
    parser.add_argument(
        '--keys', nargs='+', help='scalars; by default loss, lr and all of the adversary'
    )
    parser.add_argument('--probes', action='store_true', help='what ProbeHook found, over epochs')
    parser.add_argument('--out', default='curves.png', help='image to write')
    args = parser.parse_args()
    read = read_probes if args.probes else read_scalars
    runs = {Path(folder).name: read(folder) for folder in args.work_dirs}
    logged = {name for scalars in runs.values() for name in scalars}
    keys = args.keys or ['loss', 'lr', *sorted(n for n in logged if n.startswith('adversary/'))]
    if args.probes and not logged:
        raise UserError(f'there are no probes in {args.work_dirs}: was ProbeHook in the config?')
    if args.probes and not args.keys:
        keys = sorted(name for name in logged if '/block_' not in name)
    missing = [key for key in keys if key not in logged]
    if missing:
        raise UserError(f'no run logged {missing}; there are {sorted(logged)}')
    unit = 'epoch' if args.probes else 'iteration'
    plot_curves(runs, keys, unit).savefig(args.out, dpi=110)
    for name, scalars in runs.items():
        ends = [
            f'{k} {scalars[k][0, 1]:.4g} -> {scalars[k][-1, 1]:.4g}' for k in keys if k in scalars
        ]
        print(f'{name}: {", ".join(ends)}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('plot_curves'):
        sys.exit(main())
