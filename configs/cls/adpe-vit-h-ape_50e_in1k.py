"""Fine-tune AdPE ViT-H/14 (absolute positions, coordinate mode) on ImageNet-1K for 50 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-h-ape_50e_in1k.py 8

Top-1: none published; MAE 86.9 (its paper; mmpretrain too); here: not run.
"""

_base_ = './adpe-vit-l-ape_50e_in1k.py'
model = dict(
    backbone=dict(
        arch='h',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_ape-coord_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=1280),
)
