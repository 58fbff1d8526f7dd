"""As `adpe_vit-b_from-mae_1gpu.py`, with absolute positions alone, as MAE has.

    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth work_dirs/mae_vit-b.pth
    python tools/train.py configs/pretrain/adpe_vit-b_ape-coord_from-mae_1gpu.py \\
        --cfg-options train_dataloader.dataset.data_root=FOLDER

What comes out fits timm, mmpretrain and all else that reads the encoder of MAE. Here: not run.
"""

_base_ = './adpe_vit-b_from-mae_1gpu.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/mae_vit-b.pth'),
    ),
)
