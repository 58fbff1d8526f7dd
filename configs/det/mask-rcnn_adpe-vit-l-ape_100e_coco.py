"""Mask R-CNN on AdPE ViT-L (absolute positions) as ViTDet, COCO, 100 epochs.

    NNODES=8 tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-l-ape_100e_coco.py 8

There is no pretraining config for it: give the checkpoint, MAE's for example, by
``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

The paper gives no result for it; here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-b-ape_100e_coco.py'
model = dict(
    backbone=dict(
        arch='l',
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_ape-coord_1600e/epoch_1600.pth'),
    ),
    neck=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
