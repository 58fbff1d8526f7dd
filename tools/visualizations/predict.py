#!/usr/bin/env python
"""Draw what a classifier, segmentor or detector sees in images.

    python tools/visualizations/predict.py CONFIG CHECKPOINT my_photos --out predictions
    python tools/visualizations/predict.py CONFIG CHECKPOINT --attention    # of the test set

Writes NAME.png with the class, the masks or the boxes over the image, and with --attention
NAME_attention.png: where the last block that attends globally looks, by head (from the cls token,
or on average over all patches where there is none).
"""

import argparse
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from adpe_mm.evaluation.predictions import Predictor, images_to_draw
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.options import ConfigOptions


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
    parser.add_argument('--max', type=int, default=8, help='number of images')
    parser.add_argument('--score', type=float, default=0.3, help='of the boxes that are drawn')
    parser.add_argument('--attention', action='store_true', help='draw the attention as well')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, help='overrides, key=value'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.default_scope)
    predictor = Predictor(cfg, args.checkpoint, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    images = images_to_draw(cfg, args.images, args.max)
    for path in images:
        batch = predictor.load(path)
        predictor.draw(path, batch, args.out / f'{path.stem}.png', args.score)
        if args.attention:
            sheet = predictor.attention_sheet(path, batch)
            sheet.save(args.out / f'{path.stem}_attention.png')
    print(f'wrote {len(images)} images to {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('predict'):
        main()
