"""As `adpe-vit-b-ape_100e_in1k.py`, at 384 px: 24 x 24 patches of 16 px.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_100e_in1k-384px.py 8

8 GPUs x 64 x 2 accumulated = 1024. All other numbers are those of 224 px, as MAE's and mmpretrain's
448 px of ViT-H: none are published for ViT-B.

No published result; here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune_384px.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        img_size=384,
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2)
