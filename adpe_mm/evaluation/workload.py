"""A config's forward pass on images of its size, without data: what plans and checks run."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from adpe_mm.datasets import first_pipeline


def example(cfg: Config, images: int) -> Tensor:
    """Input of some images, as the network gets them in training."""
    channels = cfg.model.backbone.get('in_channels', 3)
    for transform in first_pipeline(cfg.train_dataloader.dataset):
        if transform['type'].endswith('MultiCrop'):
            size = to_2tuple(transform['size'])
            return torch.randn(images * transform['num_crops'], channels, *size)
    return torch.randn(images, channels, *to_2tuple(cfg.model.backbone.img_size))


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """A scalar that depends on all that is computed for a loss.

    Of a detector these are all heads, those of regions on as many as the sampler may choose at the
    most; no anchor is matched, and no box is chosen.
    """
    if hasattr(model, 'predict_patches'):
        return model.loss(inputs)['loss']
    if hasattr(model, 'head'):
        return _mean([model(inputs)])
    features = model.neck(model.backbone(inputs))
    if hasattr(model, 'decode_head'):
        heads = [model.decode_head, model.auxiliary_head]
        return sum(_loss_of_pixels(head, features, inputs) for head in heads)
    outs = [out for outs in model.rpn_head(features) for out in outs]
    return _mean([*outs, *_of_regions(model.roi_head, features[0], len(inputs))])


def _mean(outs: list[Tensor]) -> Tensor:
    return sum(out.float().mean() for out in outs)


def _loss_of_pixels(head: nn.Module, features: tuple[Tensor, ...], inputs: Tensor) -> Tensor:
    size = inputs.shape[2:]
    logits = F.interpolate(head(features), size, mode='bilinear', align_corners=head.align_corners)
    labels = torch.zeros(len(inputs), *size, dtype=torch.long, device=inputs.device)
    return F.cross_entropy(logits, labels, reduction='none').mean()


def _of_regions(head: nn.Module, features: Tensor, images: int) -> Iterator[Tensor]:
    """What the heads of regions make of these; a mask is made of each that may be an object."""

    def first(one_or_more):
        return one_or_more[0] if isinstance(one_or_more, list | nn.ModuleList) else one_or_more

    def regions(number: float, extractors: nn.Module) -> Tensor:
        extractor = first(extractors)
        shape = (int(number), extractor.out_channels, *extractor.roi_layers[0].output_size)
        crops = torch.randn(shape, dtype=features.dtype, device=features.device)
        return crops.requires_grad_()  # as what RoIAlign cuts out of the features

    sampler = first(head.train_cfg).sampler  # every stage of a cascade has the same number
    stages = head.bbox_head if isinstance(head.bbox_head, nn.ModuleList) else [head.bbox_head]
    for stage in stages:
        yield from stage(regions(images * sampler.num, head.bbox_roi_extractor))
    if head.with_mask:
        objects = images * sampler.num * sampler.pos_fraction
        yield first(head.mask_head)(regions(objects, head.mask_roi_extractor))
