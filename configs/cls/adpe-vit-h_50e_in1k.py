"""Fine-tune AdPE ViT-H/14 (relative positions, coordinate mode) on ImageNet-1K for 50 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-h_50e_in1k.py 8

Top-1: none published ('waiting' in the official README); here: not run.
"""

_base_ = './adpe-vit-l_50e_in1k.py'
model = dict(
    backbone=dict(
        arch='h',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=1280),
)
