from .adversary import AdversaryProjectionHook
from .checkpoint import CheckpointFitHook, SafeCheckpointHook
from .compile import CompileHook
from .ema import EMAHook
from .finite import FiniteHook
from .runtime_info import DeferredRuntimeInfoHook
from .seed import IterationSeedHook
from .tf32 import TF32EvaluationHook
from .unreadable import UnreadableImagesHook

__all__ = [
    'AdversaryProjectionHook',
    'CheckpointFitHook',
    'CompileHook',
    'DeferredRuntimeInfoHook',
    'EMAHook',
    'FiniteHook',
    'IterationSeedHook',
    'SafeCheckpointHook',
    'TF32EvaluationHook',
    'UnreadableImagesHook',
]
