from .hooks import (
    AdversaryProjectionHook,
    CheckpointFitHook,
    CompileHook,
    DeferredRuntimeInfoHook,
    EMAHook,
    FiniteHook,
    IterationSeedHook,
    SafeCheckpointHook,
    TF32EvaluationHook,
    UnreadableImagesHook,
)
from .lars import LARS
from .loops import ExactEpochTrainLoop, ExactIterTrainLoop, StoppableValLoop
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
    'EMAHook',
    'ExactEpochTrainLoop',
    'ExactIterTrainLoop',
    'FiniteHook',
    'IterationSeedHook',
    'LARS',
    'LayerDecayOptimWrapperConstructor',
    'LinearLR',
    'SafeCheckpointHook',
    'StoppableValLoop',
    'TF32EvaluationHook',
    'UnreadableImagesHook',
]
