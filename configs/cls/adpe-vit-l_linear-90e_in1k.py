"""As `adpe-vit-b_linear-90e_in1k.py`, for ViT-L.

    tools/dist_train.sh configs/cls/adpe-vit-l_linear-90e_in1k.py 8

MAE's FINETUNE.md: 50 epochs are enough (`train_cfg.max_epochs=50`).

Top-1: none published; MAE 75.8 (its paper), 76.0 (its FINETUNE.md), 75.5 (mmpretrain); here: not
run.
"""

_base_ = './adpe-vit-b_linear-90e_in1k.py'
model = dict(
    backbone=dict(
        arch='l',
        frozen_stages=24,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_1600e/epoch_1600.pth'),
    ),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024),
)
