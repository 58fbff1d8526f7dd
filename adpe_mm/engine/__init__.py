from .hooks import AdversaryProjectionHook, CheckpointFitHook
from .optim import AmpOptimWrapper, CosineAnnealingLR, LayerDecayOptimWrapperConstructor, LinearLR
from .runner import AdPERunner

__all__ = [
    'AdPERunner',
    'AdversaryProjectionHook',
    'AmpOptimWrapper',
    'CheckpointFitHook',
    'CosineAnnealingLR',
    'LayerDecayOptimWrapperConstructor',
    'LinearLR',
]
