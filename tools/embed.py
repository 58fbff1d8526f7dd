#!/usr/bin/env python
"""Write the features of images, and their paths, to a file.

    python tools/embed.py CHECKPOINT my_images --out features.npz
    python tools/embed.py CHECKPOINT my_images more/x.jpg --out features.parquet --token cls

CHECKPOINT is one of pretraining or of a task. Of a .npz, numpy.load gives 'features' (N, E) float32
and 'paths' (N,); a .parquet has the columns 'features' and 'path' (it needs pyarrow). Memory does
not grow with the features: an image takes that of its path.
"""

import argparse

import torch

from adpe_mm import get_model, iterate_features
from adpe_mm.evaluation.feature_files import write_features
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('images', nargs='+', help='images, or folders with all below them')
    parser.add_argument('--out', required=True, help='.npz or .parquet to write')
    parser.add_argument('--token', choices=['mean', 'cls'], default='mean', help='mean of patches')
    parser.add_argument('--size', type=int, help="side in pixels; the network's own by default")
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='become black and white in files of 16 bits or floats; by default percentiles of each',
    )
    parser.add_argument('--batch-size', type=int, default=64, help='images per step')
    parser.add_argument('--workers', type=int, help='processes that load; one per core by default')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    model = get_model(args.checkpoint, device=args.device)
    batches = iterate_features(
        model,
        args.images,
        args.token,
        batch_size=args.batch_size,
        num_workers=args.workers,
        size=args.size,
        progress=True,
        value_range=args.value_range,
    )
    number, width = write_features(args.out, batches)
    print(f'wrote {number} x {width} features to {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('embed'):
        main()
