#!/usr/bin/env python
"""Check on a GPU that this package computes what it should, and say how fast.

    python tools/analysis_tools/gpu_check.py --out gpu_check    # some ten minutes
    python tools/analysis_tools/gpu_check.py --quick
    python tools/analysis_tools/gpu_check.py --markdown gpu_check/gpu_check.json  # its table

No data is needed. OUT/gpu_check.md and OUT/gpu_check.json say PASS, FAIL, measured or skipped,
with what came out; both can be attached to a bug report. On a machine without a GPU most of it is
skipped. The exit status is 1 if anything is a FAIL.
"""

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path

import torch

from adpe_mm import devices
from adpe_mm.evaluation.gpu_check import as_markdown, read_report, run_all, write_report
from adpe_mm.evaluation.results import device_name, versions
from adpe_mm.launch import one_sentence_errors

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('gpu_check'), help='folder of the report')
    parser.add_argument('--quick', action='store_true', help='fewer cases, in two minutes')
    parser.add_argument(
        '--markdown', type=Path, metavar='JSON', help='check nothing, print the table of a report'
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if args.markdown:
        print(as_markdown(*read_report(args.markdown)), end='')
        return 0
    devices.require()
    logging.disable(logging.INFO)
    warnings.simplefilter('ignore')
    about = dict(
        device=device_name(),
        driver=devices.driver_version() if torch.cuda.is_available() else 'none',
        versions=dict(versions(), cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version()),
        date=time.strftime('%Y-%m-%d'),
        quick=args.quick,
    )
    print(', '.join(f'{name} {value}' for name, value in about.items()))
    rows = run_all(ROOT, args.quick, lambda line: print(line, flush=True))
    for path in write_report(rows, args.out, about):
        print(f'wrote {path}')
    return int(any(row.status == 'FAIL' for row in rows))


if __name__ == '__main__':
    with one_sentence_errors('gpu_check'):
        sys.exit(main())
