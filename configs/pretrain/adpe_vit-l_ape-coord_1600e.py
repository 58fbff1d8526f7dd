"""AdPE, absolute positions in coordinate mode, ViT-L, 1600 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-l_ape-coord_1600e.py 8

8 GPUs x 128 x 4 accumulated = 4096 images.

No published result; here: not run.
"""

_base_ = './adpe_vit-b_ape-coord_1600e.py'
model = dict(backbone=dict(arch='l'))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
