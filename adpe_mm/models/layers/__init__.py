from .adversary import AdversarialPosition
from .attention import Attention
from .irpe import ImageRelativePosition, Perturbation

__all__ = ['AdversarialPosition', 'Attention', 'ImageRelativePosition', 'Perturbation']
