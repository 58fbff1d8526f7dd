"""UperNet on the small ViT of `adpe_vit-mini_mini.py`, on mini scenes in ADE20K's layout.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/seg/upernet_adpe-vit-mini_mini.py 2

Eight classes and the background. From scratch: ``--cfg-options model.backbone.init_cfg=None``.

Measured: see docs/mini_benchmark.md.
"""

_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256
        ),
        img_size=64,
        patch_size=8,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-mini_mini/epoch_24.pth'),
    ),
    neck=dict(embed_dim=64, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[64, 64, 64, 64], pool_scales=(1, 2), channels=64, num_classes=9),
    auxiliary_head=dict(in_channels=64, in_index=1, channels=32, num_classes=9),
    test_cfg=dict(_delete_=True, mode='whole'),
)
data = dict(
    _delete_=True,
    type='BaseSegDataset',
    metainfo=dict(
        classes=(
            'corner',
            'cross',
            'cup',
            'flag',
            'snake',
            'stairs',
            'tee',
            'wreath',
            'background',
        ),
        palette=[
            [255, 64, 64],
            [178, 145, 45],
            [159, 255, 64],
            [45, 178, 79],
            [64, 255, 255],
            [45, 79, 178],
            [159, 64, 255],
            [178, 45, 145],
            [120, 120, 120],
        ],
    ),
    reduce_zero_label=True,  # 1 is the first class; LoadAnnotations follows
    data_root='{{$MINI_DATA:data/mini}}/ade',
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        data,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(64, 64), ratio_range=(0.8, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    dataset=dict(
        data,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
del data
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='adpe_mm.LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale in [(64, 64), (80, 80)]],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
# 2 processes x 16. A small network on few images bears a larger lr than the recipe's.
optim_wrapper = dict(optimizer=dict(lr=3e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=40 / 400),
    dict(type='PolyLR', begin=40 / 400, eta_min=0.0, power=1.0),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400))
log_processor = dict(window_size=20)
