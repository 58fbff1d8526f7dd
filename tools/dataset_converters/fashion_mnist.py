#!/usr/bin/env python
"""Fashion-MNIST as folders: many images without labels, few with, and the test set.

    python tools/dataset_converters/fashion_mnist.py DIR data/fashion_mnist --labelled 20

DIR holds the four files of the data set (train-images-idx3-ubyte.gz and so on), as its repository
or Debian's package dataset-fashion-mnist has them.

    OUT/unlabelled/*.png      the 60,000 training images, 28 px, grey
    OUT/train/CLASS/*.png     N of each class
    OUT/val/CLASS/*.png       the 10,000 test images
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.datasets.fashion_mnist import write_folders
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help="folder of the data set's files")
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--labelled', type=int, default=100, help='images per class (default 100)')
    args = parser.parse_args()
    for name, count in write_folders(args.source, args.out, args.labelled).items():
        print(f'{name}: {count} images')


if __name__ == '__main__':
    with one_sentence_errors('fashion_mnist'):
        sys.exit(main())
