from .guarding import guard_files
from .images import Images, collate_crops, find_images, start_worker
from .reading import UnreadableImage, read_image
from .samplers import EpochSampler, SampleKey
from .transforms import ClampedResizedCrop, LoadImage, LoadImageFromFile, MultiCrop, PackCrops

__all__ = [
    'ClampedResizedCrop',
    'EpochSampler',
    'Images',
    'LoadImage',
    'LoadImageFromFile',
    'MultiCrop',
    'PackCrops',
    'SampleKey',
    'UnreadableImage',
    'collate_crops',
    'find_images',
    'guard_files',
    'read_image',
    'start_worker',
]
