"""Fine-tune the small ViT of `adpe_vit-mini_mini.py` on mini scenes, as a classifier.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/cls/adpe-vit-mini_mini.py 2

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
            _delete_=True, embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256
        ),
        img_size=64,
        patch_size=8,
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-mini_mini/epoch_24.pth'),
    ),
    # The recipe's head begins at almost 0 (std 2e-5): a short schedule has no time for that.
    head=dict(in_channels=64, num_classes=8, topk=(1, 5), init_cfg=dict(std=0.1)),
    train_cfg=dict(augments=None),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='{{$MINI_DATA:data/mini}}/imagenet',
        data_prefix='train',
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.7, 1.0)),
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
        data_root='{{$MINI_DATA:data/mini}}/imagenet',
        data_prefix='val',
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='Resize', scale=64),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='adpe_mm.LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=64)],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='PackInputs')],
        ],
    ),
]
# 2 processes x 16.
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=8, val_interval=8)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-3, end=1 / 8),
    dict(type='adpe_mm.CosineAnnealingLR', begin=1 / 8, eta_min=0.0),
]
default_hooks = dict(logger=dict(interval=10))
log_processor = dict(window_size=10)
