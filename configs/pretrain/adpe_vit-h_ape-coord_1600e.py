"""AdPE, absolute positions in coordinate mode, ViT-H/14, 1600 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-h_ape-coord_1600e.py 8

Crops of 112 px are 8 x 8 patches of 14 px. 8 GPUs x 64 x 8 accumulated = 4096 images.

No published result; here: not run.
"""

_base_ = './adpe_vit-b_ape-coord_1600e.py'
model = dict(backbone=dict(arch='h'))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=8)
