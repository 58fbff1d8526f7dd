from .mae_plus import AdPEDecoder, AdPEPretrainViT, MAEPlus

__all__ = ['AdPEDecoder', 'AdPEPretrainViT', 'MAEPlus']
