#!/usr/bin/env python
"""Export a backbone with absolute positions to Hugging Face's transformers.

    python tools/model_converters/adpe_to_transformers.py work_dirs/x/epoch_400.pth vit
    transformers.ViTModel.from_pretrained('vit', add_pooling_layer=False)

Writes config.json and model.safetensors into the folder. The grid of positions is that of the
checkpoint: pretraining's 112 px have 7 x 7 patches; for other sizes call the model with
interpolate_pos_encoding=True. It takes images that are normalised as in training.
"""

import argparse
import json
import sys
from pathlib import Path

from adpe_mm.checkpoints import (
    AtomicLocalBackend,
    describe,
    load_backbone,
    to_transformers,
    write_checkpoint,
)
from adpe_mm.launch import one_sentence_errors
from adpe_mm.models.backbones.adpe_vit import architecture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint of adpe_mm')
    parser.add_argument('dst', type=Path, help='folder to write')
    parser.add_argument(
        '--num-heads', type=int, help='where the checkpoint has no config and is of no known size'
    )
    args = parser.parse_args()
    checkpoint, left = load_backbone(args.src)
    arch = describe(checkpoint)['arch']
    if isinstance(arch, dict):
        arch['num_heads'] = arch['num_heads'] or args.num_heads
    config, weights = to_transformers(checkpoint, architecture(arch)['num_heads'])
    AtomicLocalBackend().put_text(json.dumps(config, indent=2) + '\n', args.dst / 'config.json')
    write_checkpoint(weights, args.dst / 'model.safetensors')
    print(f'wrote {len(weights)} arrays to {args.dst}; left behind: {len(left)} {left[:4]}')


if __name__ == '__main__':
    with one_sentence_errors('adpe_to_transformers'):
        sys.exit(main())
