"""Batches that are too small for batch normalisation."""

import math

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

from ..classes import dicts
from .findings import Findings


def check_batches(cfg: Config, images: int, findings: Findings) -> None:
    """Find a layer that would normalise one value in training, which torch refuses.

    Such values are those of one image where there is one for each image: the branch of UperNet and
    PSPNet that is pooled to 1 x 1, and features that are averaged.

    Args:
        cfg: Config of the run.
        images: How many there are to train on, 0 if that is unknown.
        findings: Gets the problem.
    """
    loader = cfg.get('train_dataloader')
    if not loader or loader.get('batch_size') is None:
        return
    batch, processes = loader.batch_size, get_world_size()
    each = math.ceil(images / processes)  # images of a process and epoch
    endless = 'Infinite' in str((loader.get('sampler') or {}).get('type'))
    if batch == 1:
        cause, cure = 'train_dataloader.batch_size=1', 'train_dataloader.batch_size=2 or more'
    elif images and not endless and not loader.get('drop_last') and each % batch == 1:
        cause = f'{each} images in batches of {batch} leave a last one of one image'
        cure = 'train_dataloader.drop_last=True'
    else:
        return
    for part in dicts(cfg.model):
        norm = (part.get('norm_cfg') or {}).get('type', '')
        pooled = 1 in (part.get('pool_scales') or ()) and norm in ('BN', 'BN2d', 'SyncBN')
        averaged = part.get('type') in ('ClsBatchNormNeck', 'mmpretrain.ClsBatchNormNeck')
        if norm == 'SyncBN' and processes > 1 and torch.cuda.is_available():
            continue  # it normalises the images of all processes
        if pooled or averaged:
            other = ', or model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups='
            other += str(min(32, part.get('channels', 32)))
            findings.problems.append(
                f'{cause}, but {part.type} has a batch normalisation that needs two values, and '
                f'one image has one: set {cure}{other if pooled else ""}'
            )
