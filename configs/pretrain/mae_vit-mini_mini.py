"""mmpretrain's own MAE on mini scenes, for comparison: two crops of 64 px, 128 patches as
4 crops of 36 are 144.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/mae_vit-mini_mini.py 2

Its encoder sees the visible quarter of the patches only. Measured: see docs/mini_benchmark.md.
"""

_base_ = './maeplus_vit-mini_mini.py'
model = dict(
    _delete_=True,
    type='MAE',
    data_preprocessor=dict(type='adpe_mm.MultiCropPreprocessor'),
    backbone=dict(
        type='MAEViT',
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256),
        img_size=64,
        patch_size=8,
        mask_ratio=0.75,
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=64,
        patch_size=8,
        embed_dim=64,
        decoder_embed_dim=64,
        decoder_depth=1,
        decoder_num_heads=4,
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
            dict(type='adpe_mm.MultiCrop', num_crops=2, size=64, scale=(0.5, 1.0)),
            dict(type='adpe_mm.PackCrops'),
        ],
    ),
)
default_hooks = dict(adversary_projection=None, reconstruction=None)
