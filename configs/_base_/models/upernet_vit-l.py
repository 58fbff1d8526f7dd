"""UperNet on ViT-L with iRPE: blocks 8, 12, 16 and 24."""

_base_ = './upernet_vit-b.py'
model = dict(
    backbone=dict(
        arch='l',
        out_indices=(7, 11, 15, 23),
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_1600e/epoch_1600.pth'),
    ),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
