#!/usr/bin/env python
"""Plan a training: operations, memory, loader cores, hours, and what limits it.

    python tools/analysis_tools/plan_run.py configs/pretrain/adpe_vit-b_1600e.py --gpus 8 \\
        --images-per-second 3000
    python tools/analysis_tools/plan_run.py CONFIG --gpus 256 --peak-tflops 990 --share 0.5
    python tools/analysis_tools/plan_run.py configs/pretrain/*_1gpu.py --fits

The speed of one GPU is what benchmark.py step measured (--images-per-second), or a share of its
peak. Operations and the memory of activations are counted on imagined tensors, without running
anything; all else is arithmetic, shown line by line. A GPU's memory also holds what no tool can
foresee (its context, fragments): leave a tenth.

With --fits it prints a table of what configs hold in a GPU, and of the largest batch that fits into
24, 40 and 80 GB, a tenth of which is left. Configs that hold the same have one line.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from adpe_mm.errors import UserError
from adpe_mm.evaluation.fitting import fit_all, to_markdown, write_fits
from adpe_mm.evaluation.plan import describe_plan, make_plan
from adpe_mm.launch import one_sentence_errors, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', type=Path, help='config file; with --fits several')
    parser.add_argument('--fits', action='store_true', help='the table of what fits')
    parser.add_argument('--gpus', type=int, help='all of them')
    parser.add_argument('--images-per-second', type=float, help='of one GPU, measured')
    parser.add_argument('--peak-tflops', type=float, help='of one GPU, in the precision used')
    parser.add_argument('--share', type=float, default=0.5, help='of the peak (default 0.5)')
    parser.add_argument('--memory', type=float, default=80, help='GB of one GPU (default 80)')
    parser.add_argument('--cores', type=float, default=12, help='for loading, per GPU (default 12)')
    parser.add_argument(
        '--loader-images-per-second', type=float, default=450, help='of one core (default 450)'
    )
    parser.add_argument(
        '--bandwidth', type=float, default=20, help='GB/s each way of a GPU (default 20)'
    )
    parser.add_argument('--images', type=int, help='images of the data set')
    parser.add_argument('--json', type=Path, help='file to write the plan, or the table, to')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.fits:
        fits = fit_all(args.configs, lambda name: print(name, file=sys.stderr))
        print(to_markdown(fits), end='')
        if args.json:
            write_fits(fits, args.json)
        return
    if len(args.configs) > 1 or args.gpus is None:
        raise UserError('a plan is of one config, and --gpus must say how many there are')
    plan = make_plan(read_config(args.configs[0]), args)
    print(describe_plan(plan, args))
    if args.json:
        args.json.write_text(json.dumps(asdict(plan), indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    with one_sentence_errors('plan_run'):
        sys.exit(main())
