"""As `adpe-vit-s_200e_in1k.py` with absolute positions, coordinate mode.

    tools/dist_train.sh configs/cls/adpe-vit-s-ape_200e_in1k.py 8

No published result; here: not run.
"""

_base_ = './adpe-vit-s_200e_in1k.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-s_ape-coord_1600e/epoch_1600.pth'),
    ),
)
