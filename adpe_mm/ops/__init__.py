"""mmcv's compiled operators, where mmcv was installed without them.

From a package index mmcv comes as pure Python: `mmcv.ops` then fails at its import, as the
extension module `mmcv._ext` is missing. `import adpe_mm` puts `mmcv_ext.py` in its place, which has
the operators that the networks here use. A compiled `mmcv._ext` is found first and left alone.
"""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType

EXTENSION = 'mmcv._ext'
STAND_IN = Path(__file__).with_name('mmcv_ext.py')


class _StandInFinder(MetaPathFinder):
    """Finds `mmcv._ext` after everybody else has failed to."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname == EXTENSION:
            return importlib.util.spec_from_file_location(fullname, STAND_IN)
        return None


def install() -> None:
    """Makes `mmcv.ops` importable. Imports nothing but what was imported already.

    mmdet catches the failing import and puts functions that only raise in the place of operators,
    so modules of it that were imported before get the operators now.
    """
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(_StandInFinder())
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] == 'mmdet':
            for operator in ('nms', 'batched_nms', 'roi_align'):
                found = getattr(module, operator, None)
                if isinstance(found, FunctionType) and found.__module__ == name:
                    ops = importlib.import_module('mmcv.ops')
                    setattr(module, operator, getattr(ops, operator))


def are_compiled() -> bool:
    """Returns whether `mmcv.ops` runs mmcv's own compiled operators."""
    return Path(importlib.import_module(EXTENSION).__file__) != STAND_IN
