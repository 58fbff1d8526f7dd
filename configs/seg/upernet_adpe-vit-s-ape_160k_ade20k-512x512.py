"""UperNet on AdPE ViT-S with absolute positions alone, ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-s-ape_160k_ade20k-512x512.py 8

No published result; here: not run.
"""

_base_ = './upernet_adpe-vit-s_160k_ade20k-512x512.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-s_ape-coord_1600e/epoch_1600.pth'),
    ),
)
