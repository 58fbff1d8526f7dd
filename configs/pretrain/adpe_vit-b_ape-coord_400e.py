"""AdPE, absolute positions in coordinate mode: masked patches are shifted. ViT-B, 400 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-b_ape-coord_400e.py 8

The official README leaves the projection open; here it is a shift of one patch at the most.

ImageNet top-1 after fine-tuning: 84.2 (official README, which does not name the epochs); here:
not run.
"""

_base_ = './maeplus_vit-b_ape_400e.py'
model = dict(
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='coordinate',
        norm='linf',
        eps=1.0,  # patches
    ),
)
