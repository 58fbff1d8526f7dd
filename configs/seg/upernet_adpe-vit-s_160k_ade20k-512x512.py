"""UperNet on AdPE ViT-S (relative positions), ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-s_160k_ade20k-512x512.py 8

UperNet is as wide as the backbone, as iBOT's for ViT-S is (evaluation/semantic_segmentation/
configs/upernet/vit_small_512_ade20k_160k_ms.py). lr and layer decay are those of ViT-B, not
searched; iBOT's are 3e-5 and 0.9.

The paper gives no result for it; here: not run.
"""

_base_ = './upernet_adpe-vit-b_160k_ade20k-512x512.py'
model = dict(
    backbone=dict(
        arch='s',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-s_1600e/epoch_1600.pth'),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384),
)
