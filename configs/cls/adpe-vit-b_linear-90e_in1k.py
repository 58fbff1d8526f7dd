"""Linear probing of AdPE ViT-B (relative positions): 90 epochs of a classifier on frozen features.

    tools/dist_train.sh configs/cls/adpe-vit-b_linear-90e_in1k.py 8

MAE's recipe (its `main_linprobe.py`): the cls token, normalised over the batch without scale and
shift, one layer, LARS at a base lr of 0.1 without weight decay, and crops and mirroring alone.
Batch 16384 = 8 GPUs x 512 x 4.

Top-1: none published; MAE 68.0 (its paper), 67.8 (its FINETUNE.md), 67.1 (mmpretrain, with another
LARS and bilinear crops drawn up to ten times); here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        out_type='cls_token',
        final_norm=True,
        frozen_stages=12,
        drop_path_rate=0.0,
    ),
    neck=dict(type='ClsBatchNormNeck', input_features=768, affine=False),
    head=dict(
        type='LinearClsHead',
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(std=0.01),
    ),
    train_cfg=None,
)
train_dataloader = dict(
    batch_size=512,
    dataset=dict(
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='adpe_mm.ClampedResizedCrop', size=224),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
optim_wrapper = dict(
    _delete_=True,
    type='adpe_mm.AmpOptimWrapper',
    dtype='bfloat16',
    accumulative_counts=4,
    optimizer=dict(type='adpe_mm.LARS', lr=6.4),  # base lr 0.1 * 16384 / 256
    constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
)
auto_scale_lr = dict(base_batch_size=16384)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=10 / 90),
    dict(type='adpe_mm.CosineAnnealingLR', begin=10 / 90, eta_min=0.0),
]
train_cfg = dict(max_epochs=90)
