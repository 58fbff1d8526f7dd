#!/usr/bin/env python
"""Export a backbone, a classifier or a segmentor to ONNX, or by torch.export.

    python tools/model_converters/export_model.py CHECKPOINT model.onnx
    python tools/model_converters/export_model.py CHECKPOINT model.pt2 --size 512 512
    python tools/model_converters/export_model.py CHECKPOINT backbone.onnx --features featmap

Of a classifier or segmentor all is exported, of pretraining the backbone. The file takes 'images',
(batch, 3, H, W) RGB in float32 from 0 to 255, which it normalises itself, and gives 'features', or
'logits' of the image or of each pixel. The batch may be of any size; the size of the images is
fixed. The file is run and compared with the network before it gets its name: ONNX if onnxruntime is
installed.
"""

import argparse
import sys

from adpe_mm.exporting import CHECKED, export_model
from adpe_mm.launch import one_sentence_errors
from adpe_mm.models.backbones.adpe_vit import OUT_TYPES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', help='file to write, .onnx or .pt2')
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        help='height and width of the images in pixels, or one number; of the config by default',
    )
    parser.add_argument(
        '--features', choices=OUT_TYPES, help="export the backbone alone, with AdPEViT's out_type"
    )
    args = parser.parse_args()
    if args.size and len(args.size) > 2:
        parser.error('--size takes height and width')
    size = (args.size[0], args.size[-1]) if args.size else None
    done = export_model(args.checkpoint, args.out, size, args.features)
    outputs = ', '.join(
        f'{name} ({", ".join(["batch", *map(str, shape[1:])])})'
        for name, shape in done.outputs.items()
    )
    print(f'wrote {args.out}: images (batch, {", ".join(map(str, done.shape))}) -> {outputs}')
    if done.difference is None:
        print('not compared with the network: for that, pip install onnxruntime')
    else:
        print(f'compared with the network on {CHECKED} images: equal to {done.difference:.1e}')


if __name__ == '__main__':
    with one_sentence_errors('export_model'):
        sys.exit(main())
