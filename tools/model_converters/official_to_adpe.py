#!/usr/bin/env python
"""Convert a pretraining checkpoint of the official AdPE code.

    python tools/model_converters/official_to_adpe.py adpe_official.pth adpe.pth

Any of the six variants and any size. The result loads into `MAEPlus` (`load_from` of a
pretraining config with the same variant) and, without decoder and adversary, into `AdPEViT`.
Prints what became of every array; one without a counterpart, or one that the network needs and
the file lacks, is an error unless --allow names it.
"""

import argparse
import sys

import torch

from adpe_mm.checkpoints import (
    add_description,
    check_fits,
    convert,
    infer_config,
    load_weights,
    write_checkpoint,
)
from adpe_mm.launch import one_sentence_errors
from adpe_mm.registry import MODELS
from adpe_mm.version import __version__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help="official checkpoint, {'model': state_dict}")
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--allow',
        nargs='*',
        default=[],
        metavar='REGEX',
        help='whole names that may be left over (official names) or missing (our names)',
    )
    args = parser.parse_args()
    weights, report = convert(load_weights(args.src))
    print(report)
    report.check(args.allow)
    with torch.device('meta'):
        model = MODELS.build(infer_config(weights))
    check_fits(model, weights, [*args.allow, r'data_preprocessor\..*'])
    checkpoint = dict(state_dict=weights, meta=dict(source='official AdPE'))
    write_checkpoint(add_description(checkpoint, __version__), args.dst)
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    with one_sentence_errors('official_to_adpe'):
        sys.exit(main())
