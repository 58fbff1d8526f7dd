from .adversaries import Adversary, NoAdversary
from .backbones import AdPEViT
from .data_preprocessor import MultiCropPreprocessor, bands_preprocessor, check_statistics
from .necks import SimpleFeaturePyramid
from .selfsup import AdPEDecoder, AdPEPretrainViT, MAEPlus

__all__ = [
    'AdPEDecoder',
    'AdPEPretrainViT',
    'AdPEViT',
    'Adversary',
    'MAEPlus',
    'MultiCropPreprocessor',
    'NoAdversary',
    'SimpleFeaturePyramid',
    'bands_preprocessor',
    'check_statistics',
]
