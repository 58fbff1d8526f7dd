#!/usr/bin/env python
"""Gather what trainings have left so far into one HTML file, which needs nothing beside it.

    python tools/analysis_tools/report.py work_dirs/mine            # work_dirs/mine/report.html
    python tools/analysis_tools/report.py work_dirs/mine --watch    # beside a training: it grows

It shows how far the trainings below the folder are and what they are worth, with their results,
probes, reconstructions through the epochs, the adversary, curves, speed and predictions. With
--watch it writes the page anew when something has changed, until it is stopped (Ctrl-C), and an
open browser follows; the training knows nothing of it.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from adpe_mm.errors import UserError
from adpe_mm.evaluation.report import make_report, state, summary, write_report
from adpe_mm.evaluation.tables import load_paper
from adpe_mm.launch import one_sentence_errors

PAPER = Path(__file__).with_name('paper_results.yml')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder of the runs')
    parser.add_argument('--out', type=Path, help='file to write; ROOT/report.html by default')
    parser.add_argument('--title', default='AdPE: pretraining and transfer')
    parser.add_argument(
        '--watch', type=int, nargs='?', const=30, metavar='SECONDS',
        help='write it anew when something has changed, at most every so often (default: 30)',
    )  # fmt: skip
    args = parser.parse_args()
    if args.watch is not None and args.watch < 1:
        parser.error('--watch takes a number of seconds, 1 or more')
    out = args.out or args.root / 'report.html'
    published = load_paper(PAPER)
    stopped = threading.Event()
    if args.watch:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        before = None
        while not stopped.is_set():
            now = state(args.root)
            if now != before:
                before = now
                try:
                    write_report(out, make_report(args.root, args.title, published, args.watch))
                except UserError as error:  # of a result that is being written, or to be mended
                    print(f'report: {error}', file=sys.stderr, flush=True)
            stopped.wait(args.watch)
    write_report(out, make_report(args.root, args.title, published))
    print(*summary(args.root), sep='\n')
    print(f'wrote {out} ({out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    with one_sentence_errors('report'):
        sys.exit(main())
