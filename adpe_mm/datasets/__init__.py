from .finding import Finder, find_images
from .guarding import guard_files
from .images import Images, collate_crops, start_worker
from .reading import UnreadableImage, count_bands, read_image
from .samplers import EpochSampler, SampleKey
from .transforms import ClampedResizedCrop, LoadImage, LoadImageFromFile, MultiCrop, PackCrops

__all__ = [
    'ClampedResizedCrop',
    'EpochSampler',
    'Finder',
    'Images',
    'LoadImage',
    'LoadImageFromFile',
    'MultiCrop',
    'PackCrops',
    'SampleKey',
    'UnreadableImage',
    'collate_crops',
    'count_bands',
    'find_images',
    'guard_files',
    'read_image',
    'start_worker',
]
