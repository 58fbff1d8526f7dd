from .backbones import AdPEViT
from .data_preprocessor import MultiCropPreprocessor
from .layers import AdversarialPosition
from .necks import SimpleFeaturePyramid
from .selfsup import AdPEDecoder, AdPEPretrainViT, MAEPlus

__all__ = [
    'AdPEDecoder',
    'AdPEPretrainViT',
    'AdPEViT',
    'AdversarialPosition',
    'MAEPlus',
    'MultiCropPreprocessor',
    'SimpleFeaturePyramid',
]
