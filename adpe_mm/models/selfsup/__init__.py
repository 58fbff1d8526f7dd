from .mae_plus import AdPEDecoder, AdPEPretrainViT, MAEPlus, Mask

__all__ = ['AdPEDecoder', 'AdPEPretrainViT', 'MAEPlus', 'Mask']
