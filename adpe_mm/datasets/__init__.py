from .channels import by_bands, first_pipeline, fit_channels, stated_channels
from .classes import share_classes
from .finding import Finder, extensions, find_images
from .guarding import guard_files
from .images import Images, collate_crops, start_worker
from .masks import LoadAnnotations
from .reading import UnreadableImage, ValueRange, check_value_range, count_bands, read_image
from .samplers import EpochSampler, SampleKey, SeededBatch, SeededBatches
from .seeding import kept_generators, seed_generators
from .sharing import too_little_shared_memory
from .transforms import (
    ClampedResizedCrop,
    LeftOut,
    LoadImage,
    LoadImageFromFile,
    MultiCrop,
    PackCrops,
)

__all__ = [
    'ClampedResizedCrop',
    'EpochSampler',
    'Finder',
    'Images',
    'LoadAnnotations',
    'LeftOut',
    'LoadImage',
    'LoadImageFromFile',
    'MultiCrop',
    'PackCrops',
    'SampleKey',
    'SeededBatch',
    'SeededBatches',
    'UnreadableImage',
    'ValueRange',
    'by_bands',
    'check_value_range',
    'collate_crops',
    'count_bands',
    'extensions',
    'find_images',
    'first_pipeline',
    'fit_channels',
    'guard_files',
    'kept_generators',
    'read_image',
    'seed_generators',
    'share_classes',
    'start_worker',
    'too_little_shared_memory',
    'stated_channels',
]
