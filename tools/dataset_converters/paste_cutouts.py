#!/usr/bin/env python
"""Paste cut-out objects (.png with alpha) on photographs, labelled for three tasks.

    python tools/dataset_converters/paste_cutouts.py data/photographs --photos my_photos \\
        --objects bird=cutouts/birds fruit=cutouts/fruit,cutouts/berries

What is written, and where, is as make_mini.py's. Objects and photographs of val are never seen in
train and unlabelled. The same options and files give the same bytes, with any number of processes.
"""

import argparse
import dataclasses
import signal
import sys

from adpe_mm.datasets.cutouts import Options, paste_cutouts
from adpe_mm.launch import one_sentence_errors


def category(text: str) -> tuple[str, list[str]]:
    """NAME=DIR[,DIR...]"""
    name, _, folders = text.partition('=')
    if not name or not folders:
        raise argparse.ArgumentTypeError(f"must be NAME=DIR or NAME=DIR,DIR,..., got '{text}'")
    return name, folders.split(',')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--photos', required=True, metavar='DIR', help='photographs, at any depth')
    parser.add_argument(
        '--objects',
        required=True,
        nargs='+',
        type=category,
        metavar='NAME=DIR',
        help='categories, with the folders of their cut-outs, at any depth',
    )
    parser.add_argument(
        '--without', nargs='+', default=[], metavar='TEXT', help='leave out paths with this in them'
    )
    texts = dict(
        train='labelled images to train on',
        val='labelled images to test on',
        unlabelled='further images without labels, of the objects of train',
        size='side of an image, in pixels',
        others='smaller objects behind the main one, at the most',
        held_out='percentage of objects and photographs that only val shows',
        seed='seed of everything',
        quality='JPEG quality, 1 to 100',
    )
    for field in dataclasses.fields(Options):
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=int,
            default=field.default,
            metavar='N',
            help=f'{texts[field.name]} (default: {field.default})',
        )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes (default: one per core)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier data set')
    args = vars(parser.parse_args())
    out, photos, objects, without, workers, overwrite = (
        args.pop(name) for name in ('out', 'photos', 'objects', 'without', 'workers', 'overwrite')
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lets the scratch folder go
    paste_cutouts(out, Options(**args), dict(objects), photos, without, workers, overwrite)


if __name__ == '__main__':
    try:
        with one_sentence_errors('paste_cutouts'):
            main()
    except KeyboardInterrupt:
        sys.exit('paste_cutouts: interrupted; nothing was written')
