"""AdPE: adversarial positional embeddings for pretraining Vision Transformers, on OpenMMLab."""

from importlib import import_module

from . import compat, ops
from .version import __version__, check_versions

check_versions()
ops.install()
compat.install()

_API = ('extract_features', 'get_model', 'iterate_features', 'list_models', 'register_models')
__all__ = ['__version__', *_API]


def __getattr__(name: str):
    """The Python API, imported when it is used: it needs all the libraries."""
    if name in _API:
        return getattr(import_module('.api', __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
