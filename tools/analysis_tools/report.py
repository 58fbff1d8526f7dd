#!/usr/bin/env python
"""Gather what a demo or a benchmark left into one HTML file, which needs nothing beside it.

    python tools/analysis_tools/report.py work_dirs/demo --out work_dirs/demo/report.html

It shows the transfer table, the curves of each run, the last reconstructions, predictions, and the
results by class.
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.evaluation.report import make_report
from adpe_mm.evaluation.tables import load_paper
from adpe_mm.launch import one_sentence_errors

PAPER = Path(__file__).with_name('paper_results.yml')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder of the runs')
    parser.add_argument('--out', type=Path, default=Path('report.html'), help='file to write')
    parser.add_argument('--title', default='AdPE: pretraining and transfer')
    args = parser.parse_args()
    args.out.write_text(make_report(args.root, args.title, load_paper(PAPER)), encoding='utf-8')
    print(f'wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    with one_sentence_errors('report'):
        sys.exit(main())
