from .attention import Attention
from .irpe import ImageRelativePosition, Perturbation

__all__ = ['Attention', 'ImageRelativePosition', 'Perturbation']
