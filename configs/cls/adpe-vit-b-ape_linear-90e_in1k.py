"""Linear probing of AdPE ViT-B with absolute positions, or of MAE.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_linear-90e_in1k.py 8

The paper gives no result; here: not run.
"""

_base_ = './adpe-vit-b_linear-90e_in1k.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
