"""Fine-tune AdPE ViT-L (absolute positions, coordinate mode) on ImageNet-1K for 50 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-l-ape_50e_in1k.py 8

Top-1: none published; MAE 85.9 (its paper), 85.7 (mmpretrain); here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_50e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        arch='l',
        position='ape',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_ape-coord_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=1024),
)
