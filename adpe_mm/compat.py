"""What lets mmpretrain be imported beside transformers 5.

mmpretrain has multimodal networks, which it imports with all others wherever transformers and
pycocotools are installed. They need transformers 4, and beside transformers 5 their import fails,
and with it that of mmpretrain. No network here is multimodal: `import adpe_mm` has mmpretrain leave
them out there, as it does by itself without transformers.
"""

import sys
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

DEPENDENCY = 'mmpretrain.utils.dependency'  # It decides what mmpretrain imports.


class _Loader(SourceFileLoader):
    """Loads the module, and has it say that multimodal networks cannot be had."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.WITH_MULTIMODAL = False


class _Finder(MetaPathFinder):
    """Finds that one module before everybody else."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == DEPENDENCY else None
        if spec is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> None:
    """Make mmpretrain importable. Imports nothing."""
    try:
        major = int(metadata.version('transformers').split('.')[0])
    except metadata.PackageNotFoundError:
        return
    if major >= 5 and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
