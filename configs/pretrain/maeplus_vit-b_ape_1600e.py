"""MAE+ with absolute positions, ViT-B, 1600 epochs: the baseline without an adversary.

    tools/dist_train.sh configs/pretrain/maeplus_vit-b_ape_1600e.py 8

ImageNet top-1 after fine-tuning: 83.9 (official README, which does not name the epochs); here:
not run.
"""

_base_ = [
    '../_base_/models/maeplus_vit-b_ape.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_1600e.py',
    '../_base_/pretrain_runtime.py',
]
