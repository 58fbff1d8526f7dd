"""MAE+ with relative positions, ViT-B, 400 epochs: the baseline without an adversary.

    tools/dist_train.sh configs/pretrain/maeplus_vit-b_rpe_400e.py 8

ImageNet top-1 after fine-tuning: 84.2 (official README, which does not name the epochs); here:
not run.
"""

_base_ = [
    '../_base_/models/maeplus_vit-b_rpe.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_400e.py',
    '../_base_/pretrain_runtime.py',
]
