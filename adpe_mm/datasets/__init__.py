from .images import Images, UnreadableImage, collate_crops, find_images, start_worker
from .samplers import EpochSampler, SampleKey
from .transforms import ClampedResizedCrop, LoadImage, MultiCrop, PackCrops

__all__ = [
    'ClampedResizedCrop',
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
