#!/usr/bin/env python
"""Convert the encoder of another library: of MAE above all, also of ViT, DINO and DINOv2.

    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth mae.pth
    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth mae_rpe.pth \\
        --rpe-lookup interpolate
    python tools/model_converters/mae_to_adpe.py dino_vitbase16_pretrain.pth dino.pth --method DINO

Takes MAE of facebookresearch or mmpretrain, pretrained or fine-tuned; DINO and DINOv2, of which it
takes the teacher; timm's VisionTransformer; and ViTModel, ViTMAE and Dinov2Model of transformers,
as .pth, .bin or .safetensors. Layer scale is multiplied into the layers before it. Heads, decoders
and poolers are left behind. What the backbone cannot compute exactly, such as register tokens, is
refused.

The first result is of a network with absolute positions, which is fine-tuned by the same configs
as AdPE. With --rpe-lookup the tables of relative positions are added, at 0: the network computes
what it did, and learns them from there.

Pretraining goes on from those of MAE, as configs/pretrain/adpe_vit-b_from-mae_1gpu.py does. MAE's
decoder is left behind: its mask token enters the decoder, where MAE+'s enters the encoder, so
decoder and mask token are new. mmpretrain's positions have rows and columns the other way round;
the channels of its network are put in an order in which they are MAE's.

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
    find_weights,
    infer_backbone,
    read_checkpoint,
    read_encoder,
    write_checkpoint,
)
from adpe_mm.checkpoints.describing import DESCRIPTION, UNKNOWN
from adpe_mm.errors import UserError
from adpe_mm.launch import one_sentence_errors
from adpe_mm.models.backbones.adpe_vit import ARCHITECTURES
from adpe_mm.registry import MODELS
from adpe_mm.version import __version__

ADVICE = ': name it with --method for tables of results'
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


def read(path: str, allowed: list[str]) -> tuple[dict[str, Tensor], bool]:
    """Weights of the encoder under our names, and whether it is MAE's; says what became of each."""
    checkpoint = read_checkpoint(path)
    weights = {} if 'teacher' in checkpoint else find_weights(checkpoint, path)
    if 'backbone.cls_token' not in weights or 'backbone.blocks.0.norm1.weight' in weights:
        encoder = read_encoder(checkpoint, path, allowed)
        print(encoder)
        return encoder.weights, encoder.is_mae
    left = [name for name in weights if not name.startswith('backbone.')]
    found = {n.removeprefix('backbone.'): v for n, v in weights.items() if n not in left}
    kept = {f'backbone.{n}': v for n, v in with_positions_of_mae(found).items()}
    print(f'{len(kept)} arrays of mmpretrain, halves of the channels exchanged')
    for name in left:
        print(f'{name}: of the decoder, left behind')
    return kept, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help='checkpoint, .pth, .bin or .safetensors')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--rpe-lookup',
        choices=LOOKUPS,
        help="add relative positions of this look-up, with tables at 0; 'interpolate' is that of "
        "the coordinate mode, 'bucket' that of the embedding mode and of MAE+",
    )
    parser.add_argument('--num-heads', type=int, help='of the encoder, if it is no ViT-Ti to -H')
    parser.add_argument(
        '--method', help="what pretrained it, for tables of results; 'MAE' where that can be told"
    )
    parser.add_argument(
        '--allow', nargs='*', default=[], help='arrays that may be dropped, regular expressions'
    )
    args = parser.parse_args()
    weights, is_mae = read(args.src, args.allow)
    backbone = dict(infer_backbone(weights), type='adpe_mm.AdPEViT')
    if 'backbone.ln2.weight' in weights:  # the norm of the mean of the patches
        backbone.update(out_type='avg_featmap')
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
    checkpoint = add_description(dict(state_dict=weights, meta={}), __version__)
    method = args.method or ('MAE' if is_mae else UNKNOWN['method'])
    checkpoint['meta'][DESCRIPTION]['method'] = method
    write_checkpoint(checkpoint, args.dst)
    print(f'wrote {args.dst}, of method {method}{"" if is_mae or args.method else ADVICE}')


if __name__ == '__main__':
    with one_sentence_errors('mae_to_adpe'):
        sys.exit(main())
