"""MAE+ with absolute positions: ViT-B, 4 crops of 112 px per image, 75 % masked."""

model = dict(
    type='adpe_mm.MAEPlus',
    backbone=dict(
        type='adpe_mm.AdPEPretrainViT',
        arch='b',
        img_size=112,
        position='ape',
        mask_ratio=0.75,
    ),
    neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=512, num_layers=8, num_heads=16),
    normalize_target=True,
)
