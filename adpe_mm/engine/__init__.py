from .hooks import (
    AdversaryProjectionHook,
    CheckpointFitHook,
    CompileHook,
    DeferredRuntimeInfoHook,
    IterationSeedHook,
    SafeCheckpointHook,
    UnreadableImagesHook,
)
from .loops import ExactEpochTrainLoop
from .optim import AmpOptimWrapper, CosineAnnealingLR, LayerDecayOptimWrapperConstructor, LinearLR
from .runner import AdPERunner

__all__ = [
    'AdPERunner',
    'AdversaryProjectionHook',
    'AmpOptimWrapper',
    'CheckpointFitHook',
    'CompileHook',
    'CosineAnnealingLR',
    'DeferredRuntimeInfoHook',
    'ExactEpochTrainLoop',
    'IterationSeedHook',
    'LayerDecayOptimWrapperConstructor',
    'LinearLR',
    'SafeCheckpointHook',
    'UnreadableImagesHook',
]
