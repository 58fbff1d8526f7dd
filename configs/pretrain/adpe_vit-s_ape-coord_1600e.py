"""AdPE, absolute positions in coordinate mode, ViT-S, 1600 epochs.

    tools/dist_train.sh configs/pretrain/adpe_vit-s_ape-coord_1600e.py 8

The decoder is the recipe's, 512 wide and 8 deep, wider than this encoder of 384.

No published result; here: not run.
"""

_base_ = './adpe_vit-b_ape-coord_1600e.py'
model = dict(backbone=dict(arch='s'))
