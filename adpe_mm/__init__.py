"""AdPE: adversarial positional embeddings for pretraining Vision Transformers, on OpenMMLab."""

from . import ops
from .version import __version__, check_versions

check_versions()
ops.install()

__all__ = ['__version__']
