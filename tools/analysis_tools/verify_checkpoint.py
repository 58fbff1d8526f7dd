#!/usr/bin/env python
"""Say whether checkpoints are whole, to the last byte.

    python tools/analysis_tools/verify_checkpoint.py work_dirs/x/*.pth adpe.safetensors

Files of torch.save hold a checksum of each of their parts, which torch itself never looks at; every
command of this package does before it uses one. A file of safetensors has no checksums: only its
size and its table of contents are checked. The exit status is 1 if any file is damaged.
"""

import argparse
import sys

from adpe_mm.checkpoints import check_whole, read_checkpoint
from adpe_mm.checkpoints.reading import is_safetensors
from adpe_mm.errors import UserError
from adpe_mm.launch import one_sentence_errors


def verify(path: str) -> str:
    """What was found to be right with a file.

    Raises:
        ValueError: If it is damaged.
    """
    has_checksums = not is_safetensors(path) and check_whole(path)
    read_checkpoint(path, 'cpu' if is_safetensors(path) else 'meta')
    return 'whole' if has_checksums else 'whole as far as can be told: it has no checksums'


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', help='checkpoints, .pth or .safetensors')
    damaged = 0
    for path in parser.parse_args().files:
        try:
            print(f'{path}: {verify(path)}')
        except UserError as error:
            damaged = 1
            print(error)
    return damaged


if __name__ == '__main__':
    with one_sentence_errors('verify_checkpoint'):
        sys.exit(main())
