"""Mask R-CNN on AdPE ViT-B (absolute positions) as ViTDet, COCO, 12 epochs ('1x'), for 8 GPUs.

    tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-b-ape_1x_coco.py 8    # 8 GPUs x 2
    tools/dist_test.sh configs/det/mask-rcnn_adpe-vit-b-ape_1x_coco.py CHECKPOINT 8

For MAE or MAE+ give their checkpoint: ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

Not comparable with the 100-epoch rows. Here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-b_1x_coco.py'
model = dict(
    backbone=dict(
        position='ape',
        decomposed_rpe=True,  # as ViTDet
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
