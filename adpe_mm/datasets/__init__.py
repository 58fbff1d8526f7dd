from .classes import share_classes
from .guarding import guard_files
from .images import Images, collate_crops, find_images, start_worker
from .masks import LoadAnnotations
from .reading import UnreadableImage, read_image
from .samplers import EpochSampler, SampleKey
from .transforms import ClampedResizedCrop, LoadImage, LoadImageFromFile, MultiCrop, PackCrops

__all__ = [
    'ClampedResizedCrop',
    'EpochSampler',
    'Images',
    'LoadAnnotations',
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
    'share_classes',
    'start_worker',
]
