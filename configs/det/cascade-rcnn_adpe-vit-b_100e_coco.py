"""Cascade R-CNN on AdPE ViT-B (relative positions) as ViTDet, COCO, 100 epochs: boxes alone.

    NNODES=4 tools/dist_train.sh configs/det/cascade-rcnn_adpe-vit-b_100e_coco.py 8    # 32 GPUs x 2
    tools/dist_test.sh configs/det/cascade-rcnn_adpe-vit-b_100e_coco.py CHECKPOINT 8

Cascade Mask R-CNN without its mask head, for objects that have boxes and no masks. For another
pretraining add ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box: no result of this detector is published; here: not run.
"""

_base_ = './cascade-mask-rcnn_adpe-vit-b_100e_coco.py'
model = dict(roi_head=dict(mask_roi_extractor=None, mask_head=None))
_base_.train_dataloader.dataset.pipeline[1].update(with_mask=False)
_base_.val_dataloader.dataset.pipeline[2].update(with_mask=False)
test_dataloader = _base_.val_dataloader
val_evaluator = test_evaluator = dict(metric='bbox')
