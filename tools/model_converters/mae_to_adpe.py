#!/usr/bin/env python
"""Convert the encoder of a pretraining checkpoint of MAE, facebookresearch's or mmpretrain's.

    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth mae.pth
    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth mae_rpe.pth \\
        --rpe-lookup interpolate

The first result is of a network with absolute positions: MAE is fine-tuned by the same configs as
AdPE. With --rpe-lookup the tables of relative positions are added, at 0: the network computes what
MAE's does, and learns them from there.

Pretraining goes on from both, as configs/pretrain/adpe_vit-b_from-mae_1gpu.py does. MAE's decoder
is left behind: its mask token enters the decoder, where MAE+'s enters the encoder, so decoder and
mask token are new. mmpretrain's positions have rows and columns the other way round; the channels
of its network are put in an order in which they are MAE's.

Prints what became of every array; an encoder array that is missing or has no counterpart is an
error.
"""

import argparse
import re
import sys

import torch
from torch import Tensor

from adpe_mm.checkpoints import (
    LOOKUPS,
    add_description,
    check_fits,
    convert,
    infer_backbone,
    load_weights,
    write_checkpoint,
)
from adpe_mm.errors import UserError
from adpe_mm.launch import one_sentence_errors
from adpe_mm.models.backbones.adpe_vit import ARCHITECTURES
from adpe_mm.registry import MODELS
from adpe_mm.version import __version__

# The axis of an array that is the width of the tokens; any other is the last one.
_WIDTH_FIRST = (
    r'patch_embed\.projection\..*|(.*\.)?ln\d\..*|.*\.attn\.proj\..*|.*\.ffn\.layers\.1\..*'
)
_NOT_OF_TOKENS = r'.*\.(attn\.qkv|ffn\.layers\.0\.0)\.bias'


def with_positions_of_mae(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """mmpretrain's encoder as one whose positions are MAE's.

    A position there is that of the row, then that of the column; MAE's halves are in the other
    order. Exchanging the halves of the tokens' channels everywhere changes nothing else.

    Args:
        weights: Under our names without ``backbone.``, which are mmpretrain's.

    Returns:
        The weights of a network that computes the same tokens, halves exchanged.
    """
    swapped = {}
    for name, value in weights.items():
        if not re.fullmatch(_NOT_OF_TOKENS, name):
            axis = 0 if re.fullmatch(_WIDTH_FIRST, name) else 1 if value.ndim == 2 else -1
            value = value.roll(value.shape[axis] // 2, axis)
        swapped[name] = value
    return swapped


def read_encoder(path: str) -> tuple[dict[str, Tensor], str]:
    """Weights of the encoder under our names, and whose they are; prints what became of each."""
    weights = load_weights(path)
    if 'backbone.cls_token' in weights:
        left = [name for name in weights if not name.startswith('backbone.')]
        found = {n.removeprefix('backbone.'): v for n, v in weights.items() if n not in left}
        source, kept = 'mmpretrain', with_positions_of_mae(found)
        kept = {f'backbone.{name}': value for name, value in kept.items()}
        print(f'{len(kept)} arrays of mmpretrain, halves of the channels exchanged')
    else:
        left = [name for name in weights if name.startswith('decoder_') or name == 'mask_token']
        source = 'facebookresearch/mae'
        kept, report = convert({n: v for n, v in weights.items() if n not in left})
        print(report)
        report.check()
    for name in left:
        print(f'{name}: of the decoder, left behind')
    return kept, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help="MAE checkpoint, {'model': state_dict} or mmpretrain's")
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--rpe-lookup',
        choices=LOOKUPS,
        help="add relative positions of this look-up, with tables at 0; 'interpolate' is that of "
        "the coordinate mode, 'bucket' that of the embedding mode and of MAE+",
    )
    parser.add_argument('--num-heads', type=int, help='of the encoder, if it is no ViT-Ti to -H')
    args = parser.parse_args()
    weights, source = read_encoder(args.src)
    backbone = dict(infer_backbone(weights), type='adpe_mm.AdPEViT')
    if args.rpe_lookup:
        backbone.update(position='rpe', rpe_lookup=args.rpe_lookup)
    # Tables are as wide as a head, which no array of MAE's tells: those of the ViT of its sizes.
    sizes = backbone['arch']
    del sizes['num_heads']
    known = [vit['num_heads'] for vit in ARCHITECTURES.values() if sizes.items() <= vit.items()]
    if args.rpe_lookup and not (args.num_heads or known):
        raise UserError(f'nothing tells the number of heads of {sizes}: give --num-heads')
    sizes['num_heads'] = args.num_heads or (known or [1])[0]
    with torch.device('meta'):
        model = MODELS.build(backbone)
    for name, value in model.state_dict().items():
        if '.attn.rpe.' in name:  # the look-up is no meta tensor, the tables are 0
            weights[f'backbone.{name}'] = torch.zeros(value.shape) if value.is_meta else value
    check_fits(model, {name.removeprefix('backbone.'): value for name, value in weights.items()})
    checkpoint = dict(state_dict=weights, meta=dict(source=source))
    write_checkpoint(add_description(checkpoint, __version__), args.dst)
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    with one_sentence_errors('mae_to_adpe'):
        sys.exit(main())
