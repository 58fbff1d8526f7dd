"""The RoI head of Cascade Mask R-CNN as detectron2 has it.

Letters in shapes: M RoIs of a batch, K classes without the background.
"""

from collections.abc import Iterator, Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS


@MODELS.register_module()
class CascadeRoIHead(StandardRoIHead):
    """Box heads in a row, each on the boxes of the one before, and one mask head.

    detectron2's ``modeling/roi_heads/cascade_rcnn.py``, with which ViTDet's results are made:

    - All losses have weight 1, and the gradient that a box head sends into the features is divided
      by the number of box heads.
    - The first stage's proposals are sampled as in Mask R-CNN, and are those that the mask head
      learns from. The later stages keep all boxes of the one before, clipped to the image and
      without empty ones, and only label them anew.
    - In a test the classes' probabilities are averaged over the stages; the box is that of the
      last stage, and the mask that of this box.

    mmdet's head of this name weights the losses by 1, 0.5 and 0.25, samples 512 boxes in each
    stage, has one mask head per stage, and averages logits.

    Args:
        bbox_head: Configs of the box heads, whose regression is class-agnostic.
        overlaps: For each stage but the first, the IoU with an object from which on a box counts
            as that object. All else of ``train_cfg`` is as in Mask R-CNN.
        **kwargs: See mmdet's `StandardRoIHead`.

    Raises:
        ValueError: If the numbers of stages differ, a box head's regression is of each class, or
            the mask head has no RoI extractor of its own.
    """

    def __init__(
        self, bbox_head: Sequence[dict], overlaps: Sequence[float] = (0.6, 0.7), **kwargs
    ) -> None:
        if len(bbox_head) != len(overlaps) + 1:
            raise UserError(
                f'overlaps must have one value for each box head but the first: {len(bbox_head)} '
                f'heads, overlaps={tuple(overlaps)}'
            )
        if not all(head.get('reg_class_agnostic') for head in bbox_head):
            raise UserError('the box heads of a cascade need reg_class_agnostic=True')
        if kwargs.get('mask_head') and not kwargs.get('mask_roi_extractor'):
            raise UserError('the mask head of a cascade needs a mask_roi_extractor')
        self.overlaps = tuple(overlaps)
        super().__init__(bbox_head=bbox_head, **kwargs)

    def init_bbox_head(self, bbox_roi_extractor: dict, bbox_head: Sequence[dict]) -> None:
        self.bbox_roi_extractor = MMDET_MODELS.build(bbox_roi_extractor)
        self.bbox_head = ModuleList(MMDET_MODELS.build(head) for head in bbox_head)

    def init_assigner_sampler(self) -> None:
        """One assigner and sampler for each stage; there are none without ``train_cfg``."""
        super().init_assigner_sampler()
        if not self.train_cfg:
            return
        self.assigners, self.samplers = [self.bbox_assigner], [self.bbox_sampler]
        for overlap in self.overlaps:
            limits = dict.fromkeys(('pos_iou_thr', 'neg_iou_thr', 'min_pos_iou'), overlap)
            self.assigners.append(TASK_UTILS.build(dict(self.train_cfg.assigner, **limits)))
            self.samplers.append(PseudoSampler())  # keeps all

    def loss(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        batch_data_samples: SampleList,
    ) -> dict[str, Tensor]:
        """Losses ``s0.loss_cls``, ``s0.loss_bbox``, ``s1...`` and ``loss_mask``.

        Args:
            x: Levels of the pyramid, (B, C, H, W) each.
            rpn_results_list: Proposals of each image.
            batch_data_samples: The images' objects.
        """
        objects, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses = {}
        boxes = [proposals.bboxes for proposals in rpn_results_list]
        for stage, head in enumerate(self.bbox_head):
            samples = []
            for image, priors in enumerate(boxes):
                priors = InstanceData(priors=priors)
                assigned = self.assigners[stage].assign(priors, objects[image], ignored[image])
                samples.append(self.samplers[stage].sample(assigned, priors, objects[image]))
            boxes = [sample.priors for sample in samples]
            rois = bbox2roi(boxes)
            scores, deltas = self._predict(x, rois, stage)
            found = head.loss_and_target(scores, deltas, rois, samples, self.train_cfg)
            # Without any box mmdet leaves loss_cls out; the sum is 0 then.
            of_stage = dict(loss_cls=scores.sum()) | found['loss_bbox']
            losses |= {f's{stage}.{name}': value for name, value in of_stage.items()}
            if stage == 0 and self.with_mask:
                losses |= self.mask_loss(x, samples, None, objects)['loss_mask']
            boxes = self._refine(stage, boxes, deltas, metas)
            boxes = [box[(box[:, 2:] > box[:, :2]).all(dim=1)] for box in boxes]
        return losses

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: list[InstanceData],
        rcnn_test_cfg: dict,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Boxes, scores and labels of each image, see mmdet's `StandardRoIHead`."""
        counts = [len(proposals) for proposals in rpn_results_list]
        stages = list(self._stages(x, rpn_results_list, batch_img_metas))
        scores = torch.stack([scores.float().softmax(dim=1) for _, scores, _ in stages])
        rois, _, deltas = stages[-1]
        return self.bbox_head[-1].predict_by_feat(
            rois.split(counts),
            scores.mean(dim=0).log().split(counts),  # the softmax of which they are
            deltas.float().split(counts),
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )

    def forward(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        batch_data_samples: SampleList,
    ) -> tuple[Tensor, ...]:
        """Outputs of all heads as they are, for mmdet's ``mode='tensor'``.

        Returns:
            For each stage scores (M, K + 1) and deltas (M, 4); then the masks of 100 RoIs.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        stages = list(self._stages(x, rpn_results_list, metas))
        results = [output for _, scores, deltas in stages for output in (scores, deltas)]
        if self.with_mask:
            last_rois = stages[-1][0]
            results.append(self._mask_forward(x, last_rois[:100])['mask_preds'])
        return tuple(results)

    def _stages(
        self, x: tuple[Tensor, ...], proposals: list[InstanceData], metas: list[dict]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """RoIs (M, 5), scores (M, K + 1) and deltas (M, 4) of each stage in a test."""
        boxes = [proposal.bboxes for proposal in proposals]
        for stage in range(len(self.bbox_head)):
            rois = bbox2roi(boxes)
            scores, deltas = self._predict(x, rois, stage)
            yield rois, scores, deltas
            boxes = self._refine(stage, boxes, deltas, metas)

    def _predict(self, x: tuple[Tensor, ...], rois: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Scores (M, K + 1) and deltas (M, 4) of RoIs (M, 5)."""
        features = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        if features.requires_grad:
            features.register_hook(lambda gradient: gradient / len(self.bbox_head))
        return self.bbox_head[stage](features)

    @torch.no_grad()
    def _refine(
        self, stage: int, boxes: list[Tensor], deltas: Tensor, metas: list[dict]
    ) -> list[Tensor]:
        """The boxes of each image that a stage makes of `boxes`, clipped to the image."""
        decode = self.bbox_head[stage].bbox_coder.decode
        deltas = deltas.float().split([len(of_image) for of_image in boxes])
        return [
            decode(of_image, delta, max_shape=meta['img_shape'])
            for of_image, delta, meta in zip(boxes, deltas, metas, strict=True)
        ]
