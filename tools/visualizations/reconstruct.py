#!/usr/bin/env python
"""Mask pictures and show what a pretrained network makes of them.

    python tools/visualizations/reconstruct.py CONFIG CHECKPOINT IMAGES... --out DIR

IMAGES are files or folders (with all below them). Each is cut to its central part of the crop's
shape and resized. Writes sheets of eight: input, masked input, prediction in the holes, all patches
predicted; and a plot of the adversary, if there is one.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from PIL import Image, ImageOps

from adpe_mm.datasets import LoadPicture, Pictures, UnreadablePicture
from adpe_mm.datasets.pictures import EXTENSIONS
from adpe_mm.models import MAEPlus, NoAdversary
from adpe_mm.registry import MODELS
from adpe_mm.utils.checkpoint import check_fits, load_weights
from adpe_mm.utils.launch import one_sentence_errors
from adpe_mm.utils.visualize import plot_adversary, reconstruction_rows, reconstruction_sheet

PER_SHEET = 8


def load_model(cfg: Config, checkpoint: str) -> MAEPlus:
    """The pretraining network of a config with the weights of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another network, or the config is of no pretraining.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    if not isinstance(model, MAEPlus):
        raise ValueError('the config is of no pretraining: it must have model.type adpe_mm.MAEPlus')
    weights = load_weights(checkpoint)
    check_fits(model, weights)
    model.load_state_dict(weights)
    return model.eval()


def find_pictures(names: list[str], limit: int) -> list[str]:
    """Files of a list of files and folders, spread evenly over them if they are too many."""
    paths = []
    for name in names:
        if Path(name).is_dir():
            found = Pictures(data_root=name)
            paths += [found.get_data_info(i)['img_path'] for i in range(len(found))]
        elif Path(name).is_file():
            paths.append(name)
        else:
            raise FileNotFoundError(
                f"there is no picture or folder '{name}' ({', '.join(EXTENSIONS)})"
            )
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    return [paths[i] for i in chosen]


def open_pictures(paths: list[str], size: tuple[int, int]) -> torch.Tensor:
    """(B, 1, 3, h, w) uint8 of the central parts; names on stdout what cannot be read."""
    pictures = []
    for path in paths:
        try:
            image = LoadPicture()(dict(img_path=path))['img']
        except UnreadablePicture as error:
            print(f'skipped {path}: {error}')
            continue
        fitted = ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC)
        pictures.append(torch.from_numpy(np.array(fitted)).permute(2, 0, 1).unsqueeze(0))
    if not pictures:
        raise ValueError('none of the pictures can be read')
    return torch.stack(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('config', help='pretraining config')
    parser.add_argument('checkpoint', help='checkpoint of that config')
    parser.add_argument('images', nargs='+', help='pictures, or folders of them')
    parser.add_argument('--out', default='reconstructions', help='folder to write to')
    parser.add_argument('--num', type=int, default=16, help='how many pictures at most')
    parser.add_argument('--seed', type=int, default=0, help='chooses the masks')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        raise FileNotFoundError(f"there is no config '{args.config}': see configs/")
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    model = load_model(cfg, args.checkpoint)
    size = model.backbone.patch_embed.init_input_size
    inputs = model.data_preprocessor(
        dict(inputs=open_pictures(find_pictures(args.images, args.num), size))
    )['inputs']
    grid = model.backbone.grid_size
    generator = torch.Generator().manual_seed(args.seed)
    noise = torch.rand(len(inputs), grid[0] * grid[1], generator=generator)
    prediction, masked = model.reconstruct(inputs, noise)
    rows = reconstruction_rows(
        inputs, masked, prediction, model.data_preprocessor.mean, model.data_preprocessor.std
    )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for i in range(0, len(rows), PER_SHEET):
        path = out / f'reconstruction_{i // PER_SHEET}.png'
        Image.fromarray(reconstruction_sheet(rows[i : i + PER_SHEET])).save(path)
        print(f'wrote {path}')
    if not isinstance(model.adversary, NoAdversary):
        Image.fromarray(plot_adversary(model.adversary, grid)).save(out / 'adversary.png')
        print(f'wrote {out / "adversary.png"}')


if __name__ == '__main__':
    with one_sentence_errors('reconstruct'):
        sys.exit(main())
