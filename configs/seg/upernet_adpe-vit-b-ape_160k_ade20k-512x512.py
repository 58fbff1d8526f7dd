"""UperNet on AdPE ViT-B with absolute positions alone, ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-b-ape_160k_ade20k-512x512.py 8

For MAE, MAE+ or the embedding mode give their checkpoint:
``--cfg-options model.backbone.init_cfg.checkpoint=PATH``. MAE's published results are of another
network, with a relative position bias: see `upernet_adpe-vit-b-ape-bias_160k_ade20k-512x512.py`.

No published result; here: not run.
"""

_base_ = './upernet_adpe-vit-b_160k_ade20k-512x512.py'
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
