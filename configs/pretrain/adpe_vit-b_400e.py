"""AdPE, relative positions in coordinate mode, ViT-B, 400 epochs: the best of the paper.

    tools/dist_train.sh configs/pretrain/adpe_vit-b_400e.py 8

The official README leaves the projection open; here a shift is one patch at the most.

The paper reports 1600 epochs (84.4 ImageNet top-1); here: not run.
"""

_base_ = './maeplus_vit-b_rpe_400e.py'
model = dict(
    backbone=dict(rpe_lookup='interpolate'),
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='coordinate',
        norm='linf',
        eps=1.0,  # patches
    ),
)
