"""AdPE, relative positions in coordinate mode, ViT-H/14, 1600 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-h_1600e.py 8

Crops of 112 px are 8 x 8 patches of 14 px. 8 GPUs x 64 x 8 accumulated = 4096 images. On 4 machines
of 8 GPUs, with weights, gradients and moments sharded over them (docs/sharding.md):

    export NNODES=4 NODE_RANK=... MASTER_ADDR=...
    tools/dist_train.sh configs/pretrain/adpe_vit-h_1600e.py 8 --cfg-options sharding=True
        train_dataloader.batch_size=128 optim_wrapper.accumulative_counts=1

No published result; here: not run.
"""

_base_ = './adpe_vit-b_1600e.py'
model = dict(backbone=dict(arch='h'))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=8)
