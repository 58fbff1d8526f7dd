#!/usr/bin/env python
"""Kill and stop trainings at all moments, resume them, and compare them with one that was not.

    python tools/analysis_tools/fault_campaign.py --task pretrain --kills 50 --stops 20
    python tools/analysis_tools/fault_campaign.py --task cls seg det --processes 1 2

A kill is a SIGKILL: to all processes of a run, to its launcher, to one process, or to a worker of a
loader; at an operation on a file around a save, at a call of a hook, or at any time. A stop is
another signal, to whom and when likewise. Each run is resumed until it is done; its last
checkpoint, its losses and metrics are those of the run without faults, bit for bit, or it counts as
different.

OUT/fault_campaign.md and OUT/fault_campaign.json have the table, and what was wrong. The exit
status is 1 if anything was. Small images and networks (configs/benchmarks/faults) make a run last
seconds; its processes are forked from this one, which spares them the imports. Linux only.
"""

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

from adpe_mm.evaluation.faults import TASKS, Campaign, Result, table
from adpe_mm.evaluation.results import device_name, versions
from adpe_mm.launch import one_sentence_errors
from adpe_mm.stopping import stop

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--task', nargs='+', choices=[*TASKS], default=[*TASKS])
    parser.add_argument('--kills', type=int, default=50, help='of each, at least')
    parser.add_argument('--stops', type=int, default=20, help='of each, at least')
    parser.add_argument(
        '--processes', nargs='+', type=int, choices=(1, 2, 4), default=[1], help='of each run'
    )
    parser.add_argument(
        '--in-a-row', type=int, default=3, help='faults to a training, before it may end'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the moments that are drawn')
    parser.add_argument('--only', type=int, help='number of a training, which alone is done')
    parser.add_argument(
        '--out', type=Path, default=Path('fault_campaign'), help='folder of work dirs and tables'
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    warnings.simplefilter('ignore')
    stop.listen()
    torch.set_num_threads(1)  # a process with threads cannot be forked
    out = args.out.absolute()
    results = []
    try:
        for task in args.task:
            for number in args.processes:
                campaign = Campaign(ROOT, task, number, out, args.seed, _say)
                results.append(campaign.result)
                campaign.run(args.kills, args.stops, args.in_a_row, args.only)
    finally:  # what was found until it was interrupted
        _report(results, args.seed, out)
    return int(any(t.failed for result in results for t in result.tries))


def _report(results: list[Result], seed: int, out: Path) -> None:
    about = f'{device_name()}, {versions()}'
    text = f'{table(results)}\n\n{about}\n'
    print(f'\n{text}')
    plain = dict(about=about, seed=seed, results=[asdict(result) for result in results])
    (out / 'fault_campaign.md').write_text(text, encoding='utf-8')
    (out / 'fault_campaign.json').write_text(json.dumps(plain, indent=1), encoding='utf-8')


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == '__main__':
    with one_sentence_errors('fault_campaign'):
        sys.exit(main())
