from .hooks import (
    AdversaryProjectionHook,
    CheckpointFitHook,
    IterationSeedHook,
    SafeCheckpointHook,
    UnreadablePicturesHook,
)
from .loops import ExactEpochTrainLoop
from .optim import AmpOptimWrapper, CosineAnnealingLR, LayerDecayOptimWrapperConstructor, LinearLR
from .runner import AdPERunner

__all__ = [
    'AdPERunner',
    'AdversaryProjectionHook',
    'AmpOptimWrapper',
    'CheckpointFitHook',
    'CosineAnnealingLR',
    'ExactEpochTrainLoop',
    'IterationSeedHook',
    'LayerDecayOptimWrapperConstructor',
    'LinearLR',
    'SafeCheckpointHook',
    'UnreadablePicturesHook',
]
