#!/usr/bin/env python
"""Draw mini scenes: small images of lit, textured, occluding objects, labelled for three tasks.

    python tools/dataset_converters/make_mini.py data/mini
    python tools/dataset_converters/make_mini.py data/mini --train 400 --unlabelled 20000

    OUT/imagenet/{train,val}/CLASS/*.jpg     by the main object's class
    OUT/ade/images/{training,validation}/*.jpg
    OUT/ade/annotations/{training,validation}/*.png
                                             1..K classes, K + 1 background (0, unlabelled, unused)
    OUT/coco/{train2017,val2017}/*.jpg
    OUT/coco/annotations/instances_{train,val}2017.json
                                             visible pixels as uncompressed RLE: exact, with holes
    OUT/unlabelled/*.jpg                     more images, with --unlabelled
    OUT/meta.json                            classes, palette, options, counts

adpe_mm/datasets/mini_scenes says how they are drawn. The same options give the same bytes, with any
number of processes.
"""

import argparse
import dataclasses
import signal
import sys

from adpe_mm.datasets.mini_scenes import MOST_CLASSES, Options, make_mini
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='folder to make')
    texts = dict(
        train='labelled images to train on',
        val='labelled images to test on',
        unlabelled='further images without labels',
        size='longer side of an image, in pixels',
        classes=f'number of classes, 8 to {MOST_CLASSES}',
        others='smaller objects beside the main one, at the most',
        variation='how much the pose, place and size of main objects vary, in percent',
        seed='seed of everything',
        quality='JPEG quality, 1 to 100',
        photos='folder with photographs, from which every second background is cut',
    )
    for field in dataclasses.fields(Options):
        parser.add_argument(
            f'--{field.name}',
            type=str if field.name == 'photos' else int,
            default=field.default,
            metavar='DIR' if field.name == 'photos' else 'N',
            help=f'{texts[field.name]} (default: {field.default})',
        )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes (default: one per core)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace other mini scenes')
    args = vars(parser.parse_args())
    out, workers, overwrite = (args.pop(name) for name in ('out', 'workers', 'overwrite'))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lets the scratch folder go
    make_mini(out, Options(**args), workers, overwrite)


if __name__ == '__main__':
    try:
        with one_sentence_errors('make_mini'):
            main()
    except KeyboardInterrupt:
        sys.exit('make_mini: interrupted; nothing was written')
