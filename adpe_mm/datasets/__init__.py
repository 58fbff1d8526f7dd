from .images import Pictures, UnreadablePicture, collate_crops, start_worker
from .samplers import EpochSampler, SampleKey
from .transforms import LoadPicture, MultiCrop, PackCrops

__all__ = [
    'EpochSampler',
    'LoadPicture',
    'MultiCrop',
    'PackCrops',
    'Pictures',
    'SampleKey',
    'UnreadablePicture',
    'collate_crops',
    'start_worker',
]
