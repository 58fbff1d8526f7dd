from .adversary import AdversaryProjectionHook
from .checkpoint_fit import CheckpointFitHook

__all__ = ['AdversaryProjectionHook', 'CheckpointFitHook']
