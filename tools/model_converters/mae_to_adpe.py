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

from adpe_mm.checkpoints import (
    add_description,
    check_fits,
    convert,
    infer_backbone,
    load_weights,
    write_checkpoint,
)
from adpe_mm.launch import one_sentence_errors
from adpe_mm.registry import MODELS
from adpe_mm.version import __version__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help="MAE checkpoint, {'model': state_dict}")
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
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
    backbone = dict(infer_backbone(weights), type='adpe_mm.AdPEViT')
    backbone['arch'].update(num_heads=1)  # no array depends on it
    with torch.device('meta'):
        model = MODELS.build(backbone)
    check_fits(model, {name.removeprefix('backbone.'): value for name, value in weights.items()})
    checkpoint = dict(state_dict=weights, meta=dict(source='facebookresearch/mae'))
    write_checkpoint(add_description(checkpoint, __version__), args.dst)
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    with one_sentence_errors('mae_to_adpe'):
        sys.exit(main())
