"""AdPE, absolute positions in embedding mode (an adversarial mask token). ViT-B, 400 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-b_ape-embed_400e.py 8

No projection, the official default; adversary.norm and adversary.eps set one.

ImageNet top-1 after fine-tuning: 84.1 (official README, which does not name the epochs); here:
not run.
"""

_base_ = './maeplus_vit-b_ape_400e.py'
model = dict(
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='embedding',
    ),
)
