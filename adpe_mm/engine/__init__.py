from .hooks import (
    AdversaryProjectionHook,
    CheckpointFitHook,
    CompileHook,
    DeferredRuntimeInfoHook,
    Float32Hook,
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
    'Float32Hook',
    'IterationSeedHook',
    'LayerDecayOptimWrapperConstructor',
    'LinearLR',
    'SafeCheckpointHook',
    'UnreadableImagesHook',
]
