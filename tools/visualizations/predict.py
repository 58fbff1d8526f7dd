#!/usr/bin/env python
"""Predict images with a classifier, segmentor or detector: drawn, and as files.

    python tools/visualizations/predict.py CONFIG CHECKPOINT my_photos --out predictions
    python tools/visualizations/predict.py CONFIG CHECKPOINT --attention    # of the test set

docs/guides/predictions.md says what it writes, and what the numbers in it mean:

    OUT/drawn/NAME.png       the image with the class, the masks or the boxes over it
    OUT/scores.csv           classification: the score of each class for each image
    OUT/masks/NAME.png       segmentation: a number per pixel, which OUT/classes.csv explains
    OUT/boxes.json           detection: boxes, masks, scores, names of classes, in COCO's format
    OUT/attention/NAME.png   with --attention: where the last block that attends globally looks, by
                             head (from the cls token, or on average over all patches)

NAME is that of the image with its folders, from the folder that is named on the command line. An
image that cannot be read is named and left out; the command ends with code 1 then.
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar

from adpe_mm.datasets.reading import UnreadableImage
from adpe_mm.errors import UserError
from adpe_mm.evaluation.prediction_files import find_named, find_tested
from adpe_mm.evaluation.predictions import Predictor
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.options import ConfigOptions

FEW = 8  # images of the test set, where none is named and --max is not given


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'images', nargs='*', help='images or folders; the first of the test set if none is given'
    )
    parser.add_argument('--out', type=Path, default=Path('predictions'), help='folder to write to')
    parser.add_argument(
        '--max', type=int, help=f'images at most; by default all, or {FEW} of the test set'
    )
    parser.add_argument('--score', type=float, default=0.3, help='of the boxes that are drawn')
    parser.add_argument('--attention', action='store_true', help='draw the attention as well')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, help='overrides, key=value'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.max is not None and args.max < 1:
        raise UserError(f'--max must be at least 1, got {args.max}')
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.default_scope)
    found = find_named(args.images, args.out) if args.images else find_tested(cfg)
    limit = args.max if args.max is not None or args.images else FEW
    chosen = found[:limit]
    predictor = Predictor(cfg, args.checkpoint, args.device)
    bar, unreadable = ProgressBar(len(chosen), file=sys.stderr), 0
    with predictor.files(args.out) as files:
        for image in chosen:
            try:
                batch = predictor.load(image.path)
            except UnreadableImage as error:
                print(f'\nleft out: {error}', file=sys.stderr)
                unreadable += 1
            else:
                if args.attention:
                    sheet = args.out / 'attention' / f'{image.name}.png'
                    sheet.parent.mkdir(parents=True, exist_ok=True)
                    predictor.attention_sheet(image.path, batch).save(sheet)
                sample = predictor.predict(batch)
                files.add(image, sample)
                drawn = args.out / 'drawn' / f'{image.name}.png'
                predictor.draw(image.path, sample, drawn, args.score)
            bar.update()
    print(f'\nwrote the predictions of {len(chosen) - unreadable} images to {args.out}')
    if len(chosen) < len(found):
        print(f'stopped after {len(chosen)} of {len(found)} images: --max {len(found)} takes all')
    if unreadable:
        raise UserError(
            f'{unreadable} of {len(chosen)} images cannot be read, and are named above: mend or '
            'remove them'
        )


if __name__ == '__main__':
    with one_sentence_errors('predict'):
        main()
