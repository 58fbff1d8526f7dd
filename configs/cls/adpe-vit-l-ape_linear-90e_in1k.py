"""As `adpe-vit-l_linear-90e_in1k.py` with absolute positions; for MAE too.

    tools/dist_train.sh configs/cls/adpe-vit-l-ape_linear-90e_in1k.py 8

Top-1: see there; here: not run.
"""

_base_ = './adpe-vit-l_linear-90e_in1k.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_ape-coord_1600e/epoch_1600.pth'),
    ),
)
