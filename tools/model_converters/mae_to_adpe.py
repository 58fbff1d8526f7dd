#!/usr/bin/env python
"""Convert the encoder of a facebookresearch/mae pretraining checkpoint.

    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth mae.pth

The result loads into `AdPEViT` (position='ape'), so that MAE and AdPE are fine-tuned by the same
configs. MAE's decoder is left behind: its mask token enters the decoder, where MAE+'s enters the
encoder, so it cannot go on training here. Prints what became of every array; an encoder array
that is missing or has no counterpart is an error.
"""

import argparse
import sys

import torch

from adpe_mm.models import AdPEViT
from adpe_mm.utils.checkpoint import check_fits, load_weights
from adpe_mm.utils.official import convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help="MAE checkpoint, {'model': state_dict}")
    parser.add_argument('dst', help='file to write')
    args = parser.parse_args()
    official = load_weights(args.src)
    encoder = {
        name: value
        for name, value in official.items()
        if not name.startswith('decoder_') and name != 'mask_token'
    }
    weights, report = convert(encoder)
    print(report)
    for name in official.keys() - encoder.keys():
        print(f'{name}: of the decoder, left behind')
    report.check()
    width, channels, patch_size = weights['backbone.patch_embed.projection.weight'].shape[:3]
    side = round((weights['backbone.pos_embed'].shape[1] - 1) ** 0.5)
    layers = {name.split('.')[2] for name in weights if name.startswith('backbone.layers.')}
    with torch.device('meta'):
        model = AdPEViT(
            arch=dict(
                embed_dims=width,
                num_layers=len(layers),
                num_heads=1,  # changes no array
                feedforward_channels=weights['backbone.layers.0.ffn.layers.0.0.bias'].shape[0],
            ),
            img_size=side * patch_size,
            patch_size=patch_size,
            in_channels=channels,
        )
    check_fits(model, {name.removeprefix('backbone.'): value for name, value in weights.items()})
    torch.save(dict(state_dict=weights, meta=dict(source='facebookresearch/mae')), args.dst)
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    try:
        main()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'mae_to_adpe: {error}')
