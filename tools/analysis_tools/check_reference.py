#!/usr/bin/env python
"""Compare this package with numbers recorded from the official AdPE code.

    python tools/analysis_tools/check_reference.py tests/data/reference/*.npz

Prints one line a quantity with its largest error, and exits with 1 if any exceeds its tolerance.
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.evaluation.recordings import check_recording
from adpe_mm.launch import one_sentence_errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('files', nargs='+', type=Path, help='recordings (.npz)')
    args = parser.parse_args()
    failures = total = 0
    for path in args.files:
        try:
            lines = check_recording(path).lines
        except (FileNotFoundError, ValueError) as error:
            print(f'{path.name}: {error}')
            failures += 1
            continue
        for quantity, error, tolerance in lines:
            good = error <= tolerance  # also False for NaN
            failures += not good
            total += 1
            print(
                f'{"ok  " if good else "FAIL"} {path.stem:<18} {quantity:<52} '
                f'{error:9.2e} (tolerance {tolerance:.0e})'
            )
    print(f'{total} quantities of {len(args.files)} files, {failures} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    with one_sentence_errors('check_reference'):
        sys.exit(main())
