#!/usr/bin/env python
"""Cut large photographs into tiles, to pretrain on a folder of one's own.

    python tools/dataset_converters/tile_photos.py ~/Images data/photos --size 512

Every image below SRC that Pillow reads is covered by square tiles, spread evenly, so that
nothing is left out; folders stay as they are. An image no larger than a tile is copied. What is
nearly uniform (sky, paper) is left out, as there is nothing to learn from it. The names tell where
a tile was: `beach.jpg-512-0.jpg` starts 512 px below the top of `beach.jpg`, at its left side.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

from adpe_mm.datasets.tiles import tile_photos
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', type=Path, help='folder with photographs, nested or not')
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--size', type=int, default=512, help='side of a tile, in pixels')
    parser.add_argument('--overlap', type=int, default=0, help='at least, in pixels')
    parser.add_argument(
        '--min-std', type=float, default=4, help='of grey levels (0 to 255), less is left out'
    )
    parser.add_argument('--quality', type=int, default=95, help='JPEG quality, 1 to 100')
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='become black and white in files of 16 bits or floats; by default percentiles of each',
    )
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None  # one's own panoramas are no attack
    counts = tile_photos(**vars(args))
    print(
        f'{args.out}: {counts["tiles"]} tiles and {counts["copied"]} copies of {counts["read"]} '
        f'images; left out {counts["uniform"]} nearly uniform tiles, {counts["unreadable"]} '
        'unreadable images'
    )


if __name__ == '__main__':
    with one_sentence_errors('tile_photos'):
        sys.exit(main())
