#!/usr/bin/env python
"""Export a backbone with absolute positions to mmpretrain's `VisionTransformer`.

    python tools/model_converters/adpe_to_mmpretrain.py work_dirs/x/epoch_400.pth vit.pth

Load it with ``init_cfg=dict(type='Pretrained', checkpoint='vit.pth', prefix='backbone.')``. The
names are the same; decoder, adversary and mask token are left behind.
"""

import argparse
import sys

from adpe_mm.checkpoints import load_backbone, write_checkpoint
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help='checkpoint of adpe_mm')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    args = parser.parse_args()
    checkpoint, left = load_backbone(args.src)
    weights = checkpoint['state_dict']
    write_checkpoint(checkpoint, args.dst)
    print(f'wrote {len(weights)} arrays to {args.dst}; left behind: {len(left)} {left[:4]}')


if __name__ == '__main__':
    with one_sentence_errors('adpe_to_mmpretrain'):
        sys.exit(main())
