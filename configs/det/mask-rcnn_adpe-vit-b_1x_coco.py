"""Mask R-CNN on AdPE ViT-B (relative positions) as ViTDet, COCO, 12 epochs ('1x'), for 8 GPUs.

    tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-b_1x_coco.py 8    # 8 GPUs x 2
    tools/dist_test.sh configs/det/mask-rcnn_adpe-vit-b_1x_coco.py CHECKPOINT 8

detectron2's 1x (configs/common/coco_schedule.py), with images of 0.8 to 1.25 times 1024 px, as
large-scale jitter needs a long training. lr 1e-4 at this batch is that of a published 1x of
Mask R-CNN on CAE's ViT-B (PaddlePaddle/PaddleDetection, configs/vitdet, batch 8).

Not comparable with the 100-epoch rows. Here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-b_100e_coco.py'
_base_.train_dataloader.dataset.pipeline[3].update(ratio_range=(0.8, 1.25))
auto_scale_lr = dict(base_batch_size=16)
# 1x = 90000 iterations * 16 / 118000 images, 12.2 epochs
train_cfg = dict(max_iters=90000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, end=1000 / 90000),
    dict(type='MultiStepLR', milestones=[60000 / 90000, 80000 / 90000], gamma=0.1),
]
