#!/usr/bin/env python
"""Judge the frozen features of a checkpoint: k-NN, linear and attentive probes, and more.

    python tools/probe.py CHECKPOINT data/mini/imagenet --random
    python tools/probe.py CHECKPOINT --masks data/mini/ade

CHECKPOINT is one of ours, of pretraining or a task, or one of mmpretrain, timm, MAE or the official
AdPE code. DATA is a folder with a folder of images for each class, or with train and val of such,
or a list with a line 'path label' for each image. --masks names a folder with
{images,annotations}/{training,validation} as ADE20K has them. docs/probing.md says what the numbers
mean.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from mmengine.utils import to_2tuple

from adpe_mm.datasets import stated_channels
from adpe_mm.errors import UserError
from adpe_mm.evaluation.probes import (
    PROBES,
    Prober,
    format_probes,
    read_encoder,
    segmentation_probe,
)
from adpe_mm.launch import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('data', nargs='?', help='labelled images')
    parser.add_argument('--masks', metavar='FOLDER', help='images and masks, for mIoU')
    parser.add_argument(
        '--random', action='store_true', help='beside it, the same network with random weights'
    )
    parser.add_argument('--probes', nargs='+', default=PROBES, choices=PROBES)
    parser.add_argument(
        '--size', type=int, nargs='+', metavar='PX',
        help="side, or height and width; the network's own by default",
    )  # fmt: skip
    parser.add_argument('--max-train', type=int, default=5000, help='images to fit on, at most')
    parser.add_argument('--max-val', type=int, default=2000, help='images to judge by, at most')
    for name in ('mean', 'std'):
        parser.add_argument(
            f'--{name}', type=float, nargs=3, metavar=('R', 'G', 'B'),
            help=f'{name} of the pixels, 0 to 255; by default of the checkpoint, or of ImageNet',
        )  # fmt: skip
    parser.add_argument(
        '--value-range', type=float, nargs=2, metavar=('LOW', 'HIGH'),
        help='become black and white in files of 16 bits or floats; by default percentiles of each',
    )  # fmt: skip
    parser.add_argument('--workers', type=int, help='processes that read; one per core by default')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, default=Path('probe.json'), help='file to write')
    args = parser.parse_args()
    if args.data is None and args.masks is None:
        parser.error('give labelled images, or --masks, or both')
    if args.size is not None and len(args.size) > 2:
        parser.error('--size takes a side, or height and width')
    return args


def main() -> None:
    args = parse_args()
    if not args.out.parent.is_dir():
        raise UserError(f"there is no folder '{args.out.parent}' to write --out to")
    workers = args.workers
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    size = args.size and to_2tuple(args.size[0] if len(args.size) == 1 else args.size)
    statistics = {name: getattr(args, name) for name in ('mean', 'std') if getattr(args, name)}
    seeds = {Path(args.checkpoint).name: None} | ({'random weights': 0} if args.random else {})
    encoders = {
        name: read_encoder(args.checkpoint, seed, statistics).to(args.device)
        for name, seed in seeds.items()
    }
    encoder = next(iter(encoders.values()))
    rows: dict[str, dict] = {name: {} for name in encoders}
    if args.data:
        prober = Prober(
            args.data,
            size,
            args.max_train,
            args.max_val,
            args.probes,
            workers,
            args.value_range,
            stated_channels(encoder.in_channels),
            progress=True,
        )
        rows = {name: prober(encoder) for name, encoder in encoders.items()}
    if args.masks:
        size = size or tuple(to_2tuple(encoder.patch_embed.init_input_size))
        limits = args.max_train, args.max_val
        for name, encoder in encoders.items():
            rows[name]['segmentation'] = segmentation_probe(
                encoder, args.masks, size, *limits, workers, progress=True
            )
    written = dict(format='adpe_mm.probe/1', checkpoint=args.checkpoint, data=args.data)
    text = json.dumps(dict(written, masks=args.masks, probes=rows), indent=2)
    args.out.write_text(text + '\n', encoding='utf-8')
    print(f'\n{format_probes(rows)}\nwrote {args.out}')


if __name__ == '__main__':
    with one_sentence_errors('probe'):
        main()
