#!/usr/bin/env python
"""Draw the figure of the method: masked patches of an image, and where the adversary moves them.

    python tools/visualizations/moved_positions.py configs/pretrain/adpe_vit-mini_mini.py \\
        work_dirs/mine/epoch_24.pth my_photos/1.jpg --out moved.png

The shift and the prediction are those of the checkpoint, of an adversary in coordinate mode: on
relative positions of one block (--block). The same network and image give the same bytes.
docs/images/moved_positions.png is made by

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_mini.py 2
    python tools/visualizations/moved_positions.py configs/pretrain/adpe_vit-mini_mini.py \\
        work_dirs/adpe_vit-mini_mini/epoch_24.pth data/mini/imagenet/val/cup/val_000019.jpg \\
        --block 3 --out docs/images/moved_positions.png
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

from adpe_mm.evaluation.method_figure import draw_method
from adpe_mm.evaluation.reconstruction import load_model, open_images
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.options import ConfigOptions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='pretraining config')
    parser.add_argument('checkpoint', help='checkpoint of that config')
    parser.add_argument('image', help='image file')
    parser.add_argument('--out', type=Path, default=Path('moved_positions.png'), help='to write')
    parser.add_argument('--seed', type=int, default=0, help='chooses the masked patches')
    parser.add_argument(
        '--block', type=int, default=0, help='of the encoder, whose shift on relative positions'
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='overrides')
    args = parser.parse_args()
    cfg = read_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint)
    images = open_images(cfg, [args.image], model.backbone.patch_embed.init_input_size)
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    figure = draw_method(model, inputs, args.seed, args.block)
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=100)
        # 256 colours: a third of the bytes, and no difference that is seen.
        Image.open(drawn).convert('RGB').quantize(256).save(args.out, optimize=True)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('moved_positions'):
        sys.exit(main())
