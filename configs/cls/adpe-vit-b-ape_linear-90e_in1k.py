"""As `adpe-vit-b_linear-90e_in1k.py` with absolute positions; for MAE too.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_linear-90e_in1k.py 8

For another checkpoint: ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

Top-1: see there; here: not run.
"""

_base_ = './adpe-vit-b_linear-90e_in1k.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
