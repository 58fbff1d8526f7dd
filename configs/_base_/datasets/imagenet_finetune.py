"""ImageNet-1K at 224 px with RandAugment and random erasing, 128 images per GPU.

With --tta each image is tested as it is and mirrored.
"""

train_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='adpe_mm.EpochSampler', shuffle=True, keys=False),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(
                type='RandAugment',
                policies='timm_increasing',
                num_policies=2,
                total_level=10,
                magnitude_level=9,
                magnitude_std=0.5,
                hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
            ),
            dict(
                type='RandomErasing',
                erase_prob=0.25,
                mode='rand',
                min_area_ratio=0.02,
                max_area_ratio=1 / 3,
                fill_color=[103.53, 116.28, 123.675],
                fill_std=[57.375, 57.12, 58.395],
            ),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(
                type='ResizeEdge',
                scale=256,
                edge='short',
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

tta_model = dict(type='AverageClsScoreTTA')
tta_pipeline = [
    dict(type='adpe_mm.LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='ResizeEdge',
                    scale=256,
                    edge='short',
                    backend='pillow',
                    interpolation='bicubic',
                )
            ],
            [dict(type='CenterCrop', crop_size=224)],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='PackInputs')],
        ],
    ),
]
