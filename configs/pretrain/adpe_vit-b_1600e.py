"""AdPE, relative positions in coordinate mode, ViT-B, 1600 epochs: the best of the paper.

    tools/dist_train.sh configs/pretrain/adpe_vit-b_1600e.py 8

The official README leaves the projection open; here a shift is one patch at the most.

After 1600 epochs (paper): ImageNet top-1 84.4; gains over MAE of 2.6 mIoU on ADE20K and of
3.2 / 1.6 AP box / mask on COCO, so 50.7 and 53.5 / 46.5. Here: not run.
"""

_base_ = './maeplus_vit-b_rpe_1600e.py'
model = dict(
    backbone=dict(rpe_lookup='interpolate'),
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='coordinate',
        norm='linf',
        eps=1.0,  # patches
    ),
)
