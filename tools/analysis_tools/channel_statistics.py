#!/usr/bin/env python
"""Measure mean and standard deviation of each band of images, as the lines that a config needs.

    python tools/analysis_tools/channel_statistics.py my_images [--channels 6]
    python tools/analysis_tools/channel_statistics.py CONFIG \
        --cfg-options model.backbone.in_channels=6

Of a folder, as many bands are read as its images have; of a config, those that its backbone takes,
of the images of its training. What has not 8 bits is mapped to them first, as in training: from
--value-range, or that of the config, or by percentiles of each image.
"""

import argparse
import sys
from pathlib import Path

from mmengine.registry import DATASETS, init_default_scope
from mmengine.utils import track_iter_progress

from adpe_mm.datasets import extensions, find_images, first_pipeline, stated_channels
from adpe_mm.datasets.statistics import channel_statistics, common_bands
from adpe_mm.evaluation.reconstruction import spread
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.options import ConfigOptions

LOOKED_AT = 20  # images of a folder, which tell how many bands there are


def images_of_config(args: argparse.Namespace) -> tuple[list[str], int, list | None]:
    """Paths of the images of a training, and how it reads them: bands and value_range."""
    cfg = read_config(args.source, args.cfg_options)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    indices = spread(list(range(len(dataset))), args.max or len(dataset))
    steps = first_pipeline(cfg.train_dataloader.dataset)
    value_range = next((step.value_range for step in steps if 'value_range' in step), None)
    paths = [dataset.get_data_info(i)['img_path'] for i in indices]
    return paths, cfg.model.backbone.get('in_channels', 3), args.value_range or value_range


def images_of_folder(args: argparse.Namespace) -> tuple[list[str], int, list | None]:
    """Paths of images below a folder, how many bands are read, and the value_range."""
    known = stated_channels(args.channels) if args.channels else 0  # else arrays count, too
    paths = find_images([args.source], extensions(known))
    channels = args.channels or common_bands(spread(paths, LOOKED_AT))
    return spread(paths, args.max or len(paths)), channels, args.value_range


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='folder of images, or config')
    parser.add_argument('--channels', type=int, help='bands to read, of a folder')
    parser.add_argument(
        '--max', type=int, default=1000, help='images at most, spread over all; 0 for all of them'
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='become black and white in files of 16 bits or floats; by default percentiles of each',
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='overrides')
    args = parser.parse_args()
    find = images_of_folder if Path(args.source).is_dir() else images_of_config
    paths, channels, value_range = find(args)
    progress = track_iter_progress(paths, file=sys.stderr)
    found = channel_statistics(progress, stated_channels(channels), value_range)
    sys.stderr.write('\n')
    for path in found.unreadable:
        print(f'skipped {path}', file=sys.stderr)
    mean, std = (', '.join(f'{value:.3f}' for value in part) for part in (found.mean, found.std))
    print(f'# {found.images} images of {channels} band{"s" if channels > 1 else ""}')
    print('model = dict(')
    if channels != 3:
        print(f'    backbone=dict(in_channels={channels}),')
    print(f'    data_preprocessor=dict(mean=[{mean}], std=[{std}]),\n)')


if __name__ == '__main__':
    with one_sentence_errors('channel_statistics'):
        sys.exit(main())
