"""As `adpe-vit-b-ape_100e_in1k-1pct.py` with relative positions, coordinate mode.

    tools/dist_train.sh configs/cls/adpe-vit-b_100e_in1k-1pct.py 8

No published result; here: not run.
"""

_base_ = './adpe-vit-b-ape_100e_in1k-1pct.py'
model = dict(
    backbone=dict(
        position='rpe',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_1600e/epoch_1600.pth'),
    ),
)
