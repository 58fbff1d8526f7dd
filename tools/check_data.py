#!/usr/bin/env python
"""Check the data of a config before it trains: files, classes, labels, masks.

    python tools/check_data.py configs/seg/upernet_adpe-vit-mini_mini.py
    python tools/check_data.py CONFIG --all --cfg-options data_root=my_data

Prints what there is, and ends with one sentence for each problem: what, where, and what to change.
It ends with status 1 if there is one. tools/train.py and tools/test.py do the same before they
begin; --no-check skips it there.
"""

import argparse
import sys

import adpe_mm  # noqa: F401  checks the installed versions first
from adpe_mm.datasets.checking import check_data
from adpe_mm.launch import add_config_arguments, load_config, one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('--all', action='store_true', help='look at every file, not at samples')
    args = parser.parse_args()
    findings = check_data(load_config(args), args.all)
    for fact in findings.facts:
        print(fact)
    for warning in findings.warnings:
        print(f'warning: {warning}')
    for problem in findings.problems:
        print(f'problem: {problem}')
    if findings.problems:
        sys.exit(1)
    print('no problem was found')


if __name__ == '__main__':
    with one_sentence_errors('check_data'):
        main()
