from .adversary import AdversaryProjectionHook
from .checkpoint import CheckpointFitHook, SafeCheckpointHook
from .compile import CompileHook
from .float32 import Float32Hook
from .runtime_info import DeferredRuntimeInfoHook
from .seed import IterationSeedHook
from .unreadable import UnreadableImagesHook

__all__ = [
    'AdversaryProjectionHook',
    'CheckpointFitHook',
    'CompileHook',
    'DeferredRuntimeInfoHook',
    'Float32Hook',
    'IterationSeedHook',
    'SafeCheckpointHook',
    'UnreadableImagesHook',
]
