"""MAE+ without an adversary on mini scenes: what `adpe_vit-mini_mini.py` is compared with.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/maeplus_vit-mini_mini.py 2

Measured: see docs/mini_benchmark.md.
"""

_base_ = [
    '../_base_/models/maeplus_vit-b_rpe.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_400e.py',
    '../_base_/pretrain_runtime.py',
]
# MINI_DATA in the environment says where mini scenes are, in this and in every config of them.
# A third of ViT-Ti's width and depth, on crops of 6 x 6 patches of 8 px: two cores are to pretrain
# it in minutes.
model = dict(
    backbone=dict(
        _delete_=True,
        type='adpe_mm.AdPEPretrainViT',
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256),
        img_size=48,
        patch_size=8,
        position='rpe',
        rpe_lookup='interpolate',
        mask_ratio=0.75,
    ),
    neck=dict(embed_dims=64, num_layers=1, num_heads=4),
    # Raw pixels: what was learnt of them shows within minutes. (A prediction of normalised pixels
    # can only be looked at with the true mean of each patch.)
    normalize_target=False,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        data_root='{{$MINI_DATA:data/mini}}/imagenet',
        pipeline=[
            dict(
                type='adpe_mm.MultiCrop',
                num_crops=4,
                size=48,
                scale=(0.5, 1.0),
                reducing_gap=1.5,
            ),
            dict(type='adpe_mm.PackCrops'),
        ],
    ),
)
# 2 processes x 16 images. A small network on few images bears a larger lr than the recipe's.
optim_wrapper = dict(
    accumulative_counts=1,
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(ascent=dict(lr=1e-3)),
)
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-3, end=1 / 24),
    dict(type='adpe_mm.CosineAnnealingLR', begin=1 / 24, eta_min=0.0),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=2))
log_processor = dict(window_size=20)
