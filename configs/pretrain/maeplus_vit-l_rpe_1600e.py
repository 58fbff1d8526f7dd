"""MAE+ with relative positions, ViT-L, 1600 epochs: the baseline without an adversary.

    tools/dist_train.sh configs/pretrain/maeplus_vit-l_rpe_1600e.py 8

8 GPUs x 128 x 4 accumulated = 4096 images. Without it the gain of AdPE on ViT-L (86.3 ImageNet
top-1, official README) has no baseline.

No published result; here: not run.
"""

_base_ = './maeplus_vit-b_rpe_1600e.py'
model = dict(backbone=dict(arch='l'))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
