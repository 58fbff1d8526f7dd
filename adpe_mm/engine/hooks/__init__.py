from .adversary import AdversaryProjectionHook
from .checkpoint import CheckpointFitHook, SafeCheckpointHook
from .compile import CompileHook
from .ema import EMAHook
from .finite import FiniteHook
from .runtime_info import DeferredRuntimeInfoHook
from .seed import IterationSeedHook
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
    'UnreadableImagesHook',
]
