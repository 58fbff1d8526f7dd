#!/usr/bin/env python
"""Set what was measured beside the paper's transfer table.

    python tools/analysis_tools/transfer_table.py work_dirs/transfer [--out work_dirs/transfer]

Reads the test_*.json files that tools/test.py left anywhere below the given folders, and writes
transfer_table.md, .csv and .png. A cell has the published figure, what was measured here (mean and
sample standard deviation over runs) and the difference; 'not run' where nothing was. Only tests on
the whole validation sets of ImageNet-1K, ADE20K and COCO stand there; every other data set gets a
table of its own. Test-time augmentation and linear probing have rows of their own.
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.evaluation.tables import load_paper, read_results, tables, write_tables
from adpe_mm.launch import one_sentence_errors

PAPER = Path(__file__).with_name('paper_results.yml')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='*', help='folders with results of tools/test.py')
    parser.add_argument('--out', type=Path, default=Path(), help='folder to write to')
    args = parser.parse_args()
    found = tables(read_results(args.work_dirs), load_paper(PAPER))
    print(write_tables(found, args.out))
    print(f'wrote transfer_table.md, .csv and .png to {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('transfer_table'):
        sys.exit(main())
