"""ImageNet-1K (or any images below a folder): 4 crops of 112 px per image.

256 images per GPU; with 8 GPUs and 2 accumulated iterations 4096 per step.
"""

train_dataloader = dict(
    batch_size=256,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='adpe_mm.EpochSampler', shuffle=True),
    worker_init_fn=dict(type='adpe_mm.datasets.start_worker'),
    collate_fn=dict(type='adpe_mm.datasets.collate_crops'),
    dataset=dict(
        type='adpe_mm.Images',
        data_root='data/imagenet',
        data_prefix=dict(img_path='train'),
        pipeline=[
            dict(
                type='adpe_mm.MultiCrop',
                num_crops=4,
                size=112,
                scale=(0.08, 1.0),
                reducing_gap=1.5,  # None: crops as from the whole image (docs/speed.md)
            ),
            dict(type='adpe_mm.PackCrops'),
        ],
    ),
)
