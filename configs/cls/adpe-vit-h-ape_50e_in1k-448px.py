"""As `adpe-vit-h-ape_50e_in1k.py`, at 448 px: 32 x 32 patches of 14 px.

    tools/dist_train.sh configs/cls/adpe-vit-h-ape_50e_in1k-448px.py 8

8 GPUs x 16 x 8 accumulated = 1024; where memory is short, `model.backbone.with_cp=True`. All other
numbers are those of 224 px, as in mmpretrain's vit-huge-p14_32xb8-coslr-50e_in1k-448px.

Top-1: none published; MAE 87.8 (its paper), 87.3 (mmpretrain); here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune_448px.py',
    '../_base_/schedules/finetune_50e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        arch='h',
        img_size=448,
        position='ape',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_ape-coord_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=1280),
)
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(accumulative_counts=8)
