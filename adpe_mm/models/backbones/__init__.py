from .adpe_vit import AdPEViT

__all__ = ['AdPEViT']
