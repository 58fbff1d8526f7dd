from .adversary import AdversaryProjectionHook
from .checkpoint import SafeCheckpointHook
from .checkpoint_fit import CheckpointFitHook
from .reconstruction import ReconstructionHook
from .seed import IterationSeedHook
from .unreadable import UnreadablePicturesHook

__all__ = [
    'AdversaryProjectionHook',
    'CheckpointFitHook',
    'IterationSeedHook',
    'ReconstructionHook',
    'SafeCheckpointHook',
    'UnreadablePicturesHook',
]
