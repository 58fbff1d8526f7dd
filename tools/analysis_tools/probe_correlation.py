#!/usr/bin/env python
"""Which probe to believe: probe the networks of a benchmark, and compare with fine-tuning.

    python tools/analysis_tools/probe_correlation.py work_dirs/mini_benchmark \\
        data/mini_benchmark/imagenet

WORK_DIR is one of tools/benchmarks/mini.sh or transfer.py. Of every network in it the checkpoint
that fine-tuning began from is probed (from scratch: random weights), and Spearman's rank
correlation of each probe with each metric of the tests written to WORK_DIR/probe_correlation.md
and .json.
"""

import argparse
import os
from pathlib import Path

import torch

from adpe_mm.errors import MissingFile
from adpe_mm.evaluation.probes import Prober, read_encoder
from adpe_mm.evaluation.probes.correlation import fine_tuned, write_correlation
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='folder of the benchmark')
    parser.add_argument('data', help='labelled images: see tools/probe.py')
    parser.add_argument('--size', type=int, help="side in pixels; each network's own by default")
    parser.add_argument('--workers', type=int, help='processes that read; one per core by default')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    if not args.work_dir.is_dir():
        raise MissingFile(f"there is no folder '{args.work_dir}'")
    workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
    networks = fine_tuned(args.work_dir)
    prober = Prober(args.data, args.size, num_workers=workers)
    for name, network in networks.items():
        pretrained = network['checkpoint']
        encoder = read_encoder(pretrained or network['tested'], None if pretrained else 0)
        network['probes'] = prober(encoder.to(args.device))
        print(f'{name}: probed', flush=True)
    print(write_correlation(networks, args.work_dir))


if __name__ == '__main__':
    with one_sentence_errors('probe_correlation'):
        main()
