"""UperNet on AdPE ViT-L (relative positions), ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-l_160k_ade20k-512x512.py 8

The paper gives no result for it; here: not run.
"""

_base_ = './upernet_adpe-vit-b_160k_ade20k-512x512.py'
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
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
