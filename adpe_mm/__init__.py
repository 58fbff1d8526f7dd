"""AdPE: adversarial positional embeddings for pretraining Vision Transformers, on OpenMMLab."""

from .version import __version__, check_versions

check_versions()

__all__ = ['__version__']
