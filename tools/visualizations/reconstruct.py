#!/usr/bin/env python
"""Mask images and show what a pretrained network makes of them.

    python tools/visualizations/reconstruct.py CONFIG CHECKPOINT IMAGES... --out DIR

IMAGES are files or folders (with all below them). Each is cut to its central part of the crop's
shape and resized. Writes sheets of eight: input, masked input, prediction in the holes, all patches
predicted; and a plot of the adversary, if there is one.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

from adpe_mm.datasets import extensions, find_images, stated_channels
from adpe_mm.evaluation.drawing import plot_adversary, reconstruction_sheet
from adpe_mm.evaluation.reconstruction import load_model, open_images, reconstruct, spread
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.models import NoAdversary
from adpe_mm.options import ConfigOptions

PER_SHEET = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('config', help='pretraining config')
    parser.add_argument('checkpoint', help='checkpoint of that config')
    parser.add_argument('images', nargs='+', help='images, or folders of them')
    parser.add_argument('--out', default='reconstructions', help='folder to write to')
    parser.add_argument('--num', type=int, default=16, help='how many images at most')
    parser.add_argument('--seed', type=int, default=0, help='chooses the masks')
    parser.add_argument(
        '--bands', type=int, nargs=3, help='which are shown as red, green and blue, from 0'
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='overrides')
    args = parser.parse_args()
    cfg = read_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint)
    size = model.backbone.patch_embed.init_input_size
    paths = find_images(args.images, extensions(stated_channels(model.backbone.in_channels)))
    images = open_images(cfg, spread(paths, args.num), size)
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    rows = reconstruct(model, inputs, args.seed, args.bands)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for i in range(0, len(rows), PER_SHEET):
        path = out / f'reconstruction_{i // PER_SHEET}.png'
        Image.fromarray(reconstruction_sheet(rows[i : i + PER_SHEET])).save(path)
        print(f'wrote {path}')
    if not isinstance(model.adversary, NoAdversary):
        Image.fromarray(plot_adversary(model.adversary, model.backbone.grid_size)).save(
            out / 'adversary.png'
        )
        print(f'wrote {out / "adversary.png"}')


if __name__ == '__main__':
    with one_sentence_errors('reconstruct'):
        sys.exit(main())
