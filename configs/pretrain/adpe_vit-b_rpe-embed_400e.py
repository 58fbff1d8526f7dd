"""AdPE, relative positions in embedding mode (the iRPE table is perturbed). ViT-B, 400 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-b_rpe-embed_400e.py 8

One perturbation per bucket. The official form, one vector for all buckets, is cancelled by softmax
(adversary.per_bucket=False loads its checkpoints).

ImageNet top-1 after fine-tuning: 84.3 (official README, which does not name the epochs); here:
not run.
"""

_base_ = './maeplus_vit-b_rpe_400e.py'
model = dict(
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='embedding',
    ),
)
