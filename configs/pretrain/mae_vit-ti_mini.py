"""mmpretrain's own MAE on mini scenes, for comparison: one crop of 112 px, 196 patches as 4 x 49.

    python tools/dataset_converters/make_mini.py data/mini --size 96 --train 1000 --val 200
    tools/dist_train.sh configs/pretrain/mae_vit-ti_mini.py 2

Its encoder sees the visible quarter of the patches only. Measured: see docs/mini_benchmark.md.
"""

_base_ = './maeplus_vit-ti_mini.py'
model = dict(
    _delete_=True,
    type='MAE',
    data_preprocessor=dict(type='adpe_mm.MultiCropPreprocessor'),
    backbone=dict(
        type='MAEViT',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=112,
        patch_size=8,
        mask_ratio=0.75,
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=196,
        patch_size=8,
        embed_dim=128,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=2,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=False,
        patch_size=8,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='adpe_mm.LoadPicture'),
            dict(type='adpe_mm.MultiCrop', num_crops=1, size=112, scale=(0.2, 1.0)),
            dict(type='adpe_mm.PackCrops'),
        ],
    ),
)
custom_hooks = [
    dict(type='adpe_mm.IterationSeedHook'),
    dict(type='adpe_mm.UnreadablePicturesHook', max_fraction=0.05),
    dict(type='adpe_mm.CheckpointFitHook'),
]
