"""A mask head that learns nothing from objects without a mask."""

from types import SimpleNamespace

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MMDetFCNMaskHead
from mmdet.structures.mask import BitmapMasks
from torch import Tensor

from adpe_mm.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(MMDetFCNMaskHead):
    """mmdet's `FCNMaskHead`, whose loss is of the objects that have a mask: see `LoadInstances`."""

    def loss_and_target(
        self,
        mask_preds: Tensor,
        sampling_results: list,
        batch_gt_instances: list,
        rcnn_train_cfg: dict,
    ) -> dict:
        """See mmdet's.

        Args:
            mask_preds: (M, classes, h, w), the masks of the M boxes that count as objects.
            sampling_results: Those boxes of each image, and which object each one is.
            batch_gt_instances: The objects of each image.
            rcnn_train_cfg: Settings of the training.
        """
        unknown = [_unknown(objects.masks) for objects in batch_gt_instances]
        if any(of_image.any() for of_image in unknown):
            known, kept = [], []
            for result, of_image in zip(sampling_results, unknown, strict=True):
                objects = result.pos_assigned_gt_inds
                use = ~torch.from_numpy(of_image).to(objects.device)[objects]
                known.append(use)
                kept.append(
                    SimpleNamespace(
                        pos_priors=result.pos_priors[use],
                        pos_assigned_gt_inds=objects[use],
                        pos_gt_labels=result.pos_gt_labels[use],
                    )
                )
            mask_preds, sampling_results = mask_preds[torch.cat(known)], kept
        return super().loss_and_target(
            mask_preds, sampling_results, batch_gt_instances, rcnn_train_cfg
        )


def _unknown(masks) -> np.ndarray:
    """(objects,) bool: those without a mask, whose bitmap has values that are no 0 or 1."""
    if not isinstance(masks, BitmapMasks):
        return np.zeros(len(masks), bool)
    return masks.masks.reshape(len(masks), -1).max(axis=1, initial=0) > 1
