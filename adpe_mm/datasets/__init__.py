from .images import Images, UnreadableImage, collate_crops, find_images, start_worker
from .samplers import EpochSampler, SampleKey
from .transforms import LoadImage, MultiCrop, PackCrops

__all__ = [
    'EpochSampler',
    'Images',
    'LoadImage',
    'MultiCrop',
    'PackCrops',
    'SampleKey',
    'UnreadableImage',
    'collate_crops',
    'find_images',
    'start_worker',
]
