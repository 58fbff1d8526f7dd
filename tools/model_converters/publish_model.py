#!/usr/bin/env python
"""Write the weights of a checkpoint, with what they are, and nothing else.

    python tools/model_converters/publish_model.py work_dirs/x/epoch_1600.pth adpe.safetensors
    python tools/model_converters/publish_model.py adpe.safetensors adpe.pth

Without the optimiser's state the file is a third as large, and no run can be resumed from it.
"""

import argparse
import sys

from adpe_mm.checkpoints import add_description, find_weights, read_checkpoint, write_checkpoint
from adpe_mm.launch import one_sentence_errors
from adpe_mm.version import __version__


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint of adpe_mm, .pth or .safetensors')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    args = parser.parse_args()
    checkpoint = add_description(read_checkpoint(args.src), __version__)
    weights = find_weights(checkpoint, args.src)
    write_checkpoint(dict(state_dict=weights, meta=checkpoint['meta']), args.dst)
    print(f'wrote {len(weights)} arrays to {args.dst}')


if __name__ == '__main__':
    with one_sentence_errors('publish_model'):
        sys.exit(main())
