"""As `adpe-vit-b_linear-90e_in1k.py`, for ViT-H/14.

    tools/dist_train.sh configs/cls/adpe-vit-h_linear-90e_in1k.py 8

MAE's FINETUNE.md: 50 epochs are enough (`train_cfg.max_epochs=50`).

Top-1: none published; MAE 76.6 (its paper), 77.2 (its FINETUNE.md); here: not run.
"""

_base_ = './adpe-vit-b_linear-90e_in1k.py'
model = dict(
    backbone=dict(
        arch='h',
        frozen_stages=32,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_1600e/epoch_1600.pth'),
    ),
    neck=dict(input_features=1280),
    head=dict(in_channels=1280),
)
