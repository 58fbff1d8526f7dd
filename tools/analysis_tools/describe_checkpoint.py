#!/usr/bin/env python
"""Say what checkpoints are: method, network, look-up of relative positions, training.

    python tools/analysis_tools/describe_checkpoint.py work_dirs/x/epoch_1600.pth adpe.safetensors

Of pretraining or of a task, new or old, also converted; nothing is built, and no code in the files
runs.
"""

import argparse
import sys

from adpe_mm.checkpoints import describe, format_description
from adpe_mm.launch import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', help='checkpoints, .pth or .safetensors')
    for file in parser.parse_args().files:
        print(f'{file}\n{format_description(describe(file))}\n')


if __name__ == '__main__':
    with one_sentence_errors('describe_checkpoint'):
        sys.exit(main())
