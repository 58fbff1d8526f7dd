"""Mask R-CNN on AdPE ViT-H (absolute positions) as ViTDet, COCO, 75 epochs.

    NNODES=8 tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-h-ape_75e_coco.py 8
    tools/dist_test.sh configs/det/mask-rcnn_adpe-vit-h-ape_75e_coco.py CHECKPOINT 8

Beside the absolute positions ViTDet learns its own decomposed relative ones. For MAE or MAE+ give
their checkpoint: ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box / mask of MAE in this detector: 56.7 / 50.2 (facebookresearch/detectron2,
projects/ViTDet/README.md); of AdPE: none is published; here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-h_75e_coco.py'
model = dict(
    backbone=dict(
        position='ape',
        decomposed_rpe=True,  # as ViTDet
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_ape-coord_1600e/epoch_1600.pth'),
    ),
)
