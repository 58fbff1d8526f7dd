"""Mask R-CNN on AdPE ViT-B as ViTDet, COCO, 25 epochs, for 8 GPUs with gradient accumulation.

    tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-b_25e_coco.py 8

ViTDet's batch of 64 = 8 GPUs x 2 x 4 accumulated. An iteration is one of 16 images, so a schedule
of 25 epochs is as many iterations as the other one of 100. Here: not run.
"""

_base_ = './mask-rcnn_adpe-vit-b_100e_coco.py'
optim_wrapper = dict(accumulative_counts=4)
# 25 epochs = 184375 iterations * 16 / 118000 images, 46094 optimiser steps; 250 steps warm up.
_base_.param_scheduler[0].update(end=1000 / 184375)
