from .adversary import AdversaryProjectionHook
from .checkpoint import SafeCheckpointHook
from .checkpoint_fit import CheckpointFitHook
from .compile import CompileHook
from .float32 import Float32Hook
from .reconstruction import ReconstructionHook
from .runtime_info import DeferredRuntimeInfoHook
from .seed import IterationSeedHook
from .unreadable import UnreadablePicturesHook

__all__ = [
    'AdversaryProjectionHook',
    'CheckpointFitHook',
    'CompileHook',
    'DeferredRuntimeInfoHook',
    'Float32Hook',
    'IterationSeedHook',
    'ReconstructionHook',
    'SafeCheckpointHook',
    'UnreadablePicturesHook',
]
