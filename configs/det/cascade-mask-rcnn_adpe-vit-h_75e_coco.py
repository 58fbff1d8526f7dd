"""Cascade Mask R-CNN on AdPE ViT-H (relative positions) as ViTDet, COCO, 75 epochs.

    NNODES=8 tools/dist_train.sh configs/det/cascade-mask-rcnn_adpe-vit-h_75e_coco.py 8
    tools/dist_test.sh configs/det/cascade-mask-rcnn_adpe-vit-h_75e_coco.py CHECKPOINT 8

64 GPUs x 1 image. For another pretraining add
``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

Pretrained with patches of 14 px, it detects with 16 px ones, as in detectron2's
cascade_mask_rcnn_vitdet_h_75ep.py.

AP box / mask: the paper gives no result of ViT-H; MAE in this detector with absolute positions
(facebookresearch/detectron2, projects/ViTDet/README.md): 58.7 / 51.0; here: not run.
"""

_base_ = './cascade-mask-rcnn_adpe-vit-b_100e_coco.py'
model = dict(
    backbone=dict(
        arch='h',
        patch_size=16,  # the kernel of 14 px that was pretrained is interpolated
        drop_path_rate=0.5,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_1600e/epoch_1600.pth'),
    ),
    neck=dict(in_channels=1280),
)
train_dataloader = dict(batch_size=1)
# All decays here, norms and positions too.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9, no_decay=[]))
# 75 epochs; the steps are at the same fractions of the training.
train_cfg = dict(max_iters=184375 * 3 // 4)
