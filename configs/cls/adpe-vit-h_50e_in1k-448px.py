"""As `adpe-vit-h-ape_50e_in1k-448px.py` with relative positions, coordinate mode.

    tools/dist_train.sh configs/cls/adpe-vit-h_50e_in1k-448px.py 8

Trained with 1024 images a step as that one, and not 4096 as at 224 px: a GPU holds few of these.

No published result; here: not run.
"""

_base_ = './adpe-vit-h-ape_50e_in1k-448px.py'
model = dict(
    backbone=dict(
        position='rpe',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-h_1600e/epoch_1600.pth'),
    ),
)
