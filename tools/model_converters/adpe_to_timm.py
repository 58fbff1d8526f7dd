#!/usr/bin/env python
"""Export a backbone with absolute positions to timm.

    python tools/model_converters/adpe_to_timm.py work_dirs/x/epoch_400.pth vit.pth
    timm.create_model('vit_base_patch16_224', num_classes=0).load_state_dict(torch.load('vit.pth'))

The grid of positions is that of the checkpoint: pretraining's 112 px have 7 x 7 patches, so create
the model with img_size=112, or let timm resize the positions (checkpoint_path=...).
"""

import argparse
import sys

from adpe_mm.checkpoints import load_backbone, to_timm, write_checkpoint
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help='checkpoint of adpe_mm')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    args = parser.parse_args()
    checkpoint, left = load_backbone(args.src)
    weights = to_timm(checkpoint['state_dict'])
    write_checkpoint(weights, args.dst)
    print(f'wrote {len(weights)} arrays to {args.dst}; left behind: {len(left)} {left[:4]}')


if __name__ == '__main__':
    with one_sentence_errors('adpe_to_timm'):
        sys.exit(main())
