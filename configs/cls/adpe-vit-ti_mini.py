"""Fine-tune the small ViT of `adpe_vit-ti_mini.py` on mini scenes, as a classifier.

    python tools/dataset_converters/make_mini.py data/mini --size 96 --train 1000 --val 200
    tools/dist_train.sh configs/cls/adpe-vit-ti_mini.py 2

The class of the main object, of eight.
From scratch: ``--cfg-options model.backbone.init_cfg=None``.

Measured: see docs/mini_benchmark.md.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=8),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512
        ),
        img_size=96,
        patch_size=8,
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-ti_mini/epoch_12.pth'),
    ),
    head=dict(in_channels=128, num_classes=8, topk=(1, 5)),
    train_cfg=dict(augments=None),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/mini/imagenet',
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/mini/imagenet',
        data_prefix='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=96),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=96)],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='PackInputs')],
        ],
    ),
]
# 2 processes x 16.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=8, val_interval=4)
param_scheduler = [
    dict(
        type='adpe_mm.LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(
        type='adpe_mm.CosineAnnealingLR',
        T_max=7,
        eta_min=0.0,
        by_epoch=True,
        begin=1,
        end=8,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=10))
log_processor = dict(window_size=10)
