"""Mask R-CNN on AdPE ViT-L (relative positions) as ViTDet, COCO, 100 epochs.

    NNODES=8 tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-l_100e_coco.py 8
    tools/dist_test.sh configs/det/mask-rcnn_adpe-vit-l_100e_coco.py CHECKPOINT 8

64 GPUs x 1 image. For another pretraining add
``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box / mask: the paper gives no result of ViT-L; MAE in this detector with absolute positions
(facebookresearch/detectron2, projects/ViTDet/README.md): 55.5 / 49.2; here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-b_100e_coco.py'
model = dict(
    backbone=dict(
        arch='l',
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_1600e/epoch_1600.pth'),
    ),
    neck=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
