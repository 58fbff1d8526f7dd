"""AdPE's own COCO recipe with absolute positions, as its detector has them: 8 GPUs x 4, 400k it.

    tools/dist_train.sh configs/det/cascade-mask-rcnn_adpe-vit-b-ape_400k_coco.py 8
    tools/dist_test.sh configs/det/cascade-mask-rcnn_adpe-vit-b-ape_400k_coco.py CHECKPOINT 8

For MAE or MAE+ give their checkpoint: ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box / mask (paper): a gain of 3.2 / 1.6 over 'the MAE with the ViT-B backbone', no figures; see
README.md. Here: not run.
"""

_base_ = './cascade-mask-rcnn_adpe-vit-b_400k_coco.py'
model = dict(
    backbone=dict(
        position='ape',
        decomposed_rpe=True,  # as ViTDet
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
