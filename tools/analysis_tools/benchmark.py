#!/usr/bin/env python
"""Time this package against a plain baseline, alternately in one run.

    python tools/analysis_tools/benchmark.py input
    python tools/analysis_tools/benchmark.py step --batch 4
    python tools/analysis_tools/benchmark.py attention
    python tools/analysis_tools/benchmark.py memory
    python tools/analysis_tools/benchmark.py traffic

input      from files to batches of four crops, on one core and by workers; without a folder it
           makes 200 JPEGs of 500 x 375 px and 57 kB from photographs of scikit-image
step       a whole training step of pretraining: forward, backward, optimiser; each candidate in
           a process of its own, as it is trained
attention  forward and backward of one attention layer, by number of tokens
memory     peak memory of attention at 64 x 64 patches, and of the detection backbone at 1024 px
traffic    bytes that a training step moves through a GPU's memory, counted, also without a GPU

The baselines do what the official code does, in plain calls of torch (see
adpe_mm/models/selfsup/reference.py). A ratio is the baseline's time over ours.
"""

import argparse
import json
import logging
from pathlib import Path

from adpe_mm import devices
from adpe_mm.evaluation import speed
from adpe_mm.evaluation.input_speed import benchmark_input
from adpe_mm.evaluation.results import device_name, versions
from adpe_mm.evaluation.traffic import traffic
from adpe_mm.launch import one_sentence_errors


def gap(text: str) -> float | None:
    return None if text == 'none' else float(text)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``benchmark.py input``."""
    parser.add_argument('folder', nargs='?', help='of images; by default some are made')
    parser.add_argument('--images', type=int, default=200, help='how many to make')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(500, 375), help='width and height of those, in pixels'
    )
    parser.add_argument('--kilobytes', type=float, default=57.0, help='of each of those, about')
    parser.add_argument('--crop', type=int, default=112, help='side of a crop, in pixels')
    parser.add_argument(
        '--reducing-gap', type=gap, default=1.5, help="of MultiCrop, or 'none' (default: 1.5)"
    )
    parser.add_argument('--batch-size', type=int, default=100, help='images per batch')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2], help='also by so many')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--repeats', type=int, default=5, help='timings of each candidate')
    common.add_argument('--warmup', type=int, default=2, help='calls of each before')
    common.add_argument('--json', type=Path, help='file to write the results to')

    add_input_arguments(commands.add_parser('input', parents=[common]))

    what = argparse.ArgumentParser(add_help=False)
    what.add_argument('--arch', default='b')
    what.add_argument('--crops', type=int, default=4, help='crops per image')
    what.add_argument('--img-size', type=int, default=112, help='side of a crop in pixels')
    what.add_argument('--variants', nargs='+', choices=speed.VARIANTS, default=['ape', 'rpe-coord'])

    steps = commands.add_parser('step', parents=[common, what])
    steps.add_argument(
        '--batch', type=int, default=256 if speed.DEVICE == 'cuda' else 4, help='images'
    )
    steps.add_argument('--dtypes', nargs='+', default=['bfloat16', 'float32'])
    steps.add_argument('--baseline-dtype', help='float16 on a GPU, float32 on a CPU')
    steps.add_argument('--inner', type=int, default=3, help='steps of a turn')
    steps.add_argument('--compile', action='store_true', help='ours compiled as well')

    layers = commands.add_parser('attention', parents=[common])
    layers.add_argument('--sides', nargs='+', type=int, default=[7, 14, 32, 64], help='of the grid')
    layers.add_argument('--tokens', type=int, default=4096, help='patches per batch')
    layers.add_argument('--heads', type=int, default=12)
    layers.add_argument('--dtype', default='bfloat16')

    peaks = commands.add_parser('memory', parents=[common])
    peaks.add_argument('--dtype', default='bfloat16')

    moved = commands.add_parser('traffic', parents=[what])
    moved.add_argument('--batch', type=int, default=256, help='images')
    moved.add_argument('--dtype', default='bfloat16', choices=['bfloat16', 'float16', 'float32'])
    moved.add_argument('--json', type=Path, help='file to write the results to')
    return parser.parse_args()


def print_table(rows: list[dict]) -> None:
    columns = list(rows[0])
    cells = [[_format(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    for row in (columns, ['-' * width for width in widths], *cells):
        print('| ' + ' | '.join(f'{c:<{w}}' for c, w in zip(row, widths, strict=True)) + ' |')


def _format(value) -> str:
    if value is None:
        return ''
    return f'{value:.3g}' if isinstance(value, float) else str(value)


def main() -> None:
    args = parse_args()
    devices.require()
    logging.disable(logging.INFO)  # mmengine's line for each weight that is initialised
    runs = dict(
        input=benchmark_input,
        step=speed.step,
        attention=speed.attention,
        memory=speed.memory,
        traffic=traffic,
    )
    result = runs[args.command](args)
    result |= dict(command=args.command, device=device_name(), versions=versions())
    print_table(result['rows'])
    for key, value in result.items():
        if key != 'rows':
            print(f'{key}: {value}')
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    with one_sentence_errors('benchmark'):
        main()
