#!/usr/bin/env python
"""Plan a training: operations, memory, loader cores, hours, and what limits it.

    python tools/analysis_tools/plan_run.py configs/pretrain/adpe_vit-b_1600e.py --gpus 8 \\
        --images-per-second 3000
    python tools/analysis_tools/plan_run.py CONFIG --gpus 256 --peak-tflops 990 --share 0.5

The speed of one GPU is what benchmark.py step measured (--images-per-second), or a share of its
peak. Operations are counted, and the memory of activations is measured, on a forward pass of this
network on the CPU; all else is arithmetic, shown line by line. A GPU's memory also holds what no
tool can foresee (its context, fragments): leave a tenth.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from adpe_mm.evaluation.plan import describe_plan, make_plan
from adpe_mm.launch import one_sentence_errors, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--gpus', type=int, required=True, help='all of them')
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
    parser.add_argument('--json', type=Path, help='file to write the plan to')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    plan = make_plan(read_config(args.config), args)
    print(describe_plan(plan, args))
    if args.json:
        args.json.write_text(json.dumps(asdict(plan), indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    with one_sentence_errors('plan_run'):
        sys.exit(main())
