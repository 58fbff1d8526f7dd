"""MAE+ with absolute positions, ViT-S, 1600 epochs: the baseline without an adversary.

    tools/dist_train.sh configs/pretrain/maeplus_vit-s_ape_1600e.py 8

The decoder is the recipe's, 512 wide and 8 deep, wider than this encoder of 384.

No published result; here: not run.
"""

_base_ = './maeplus_vit-b_ape_1600e.py'
model = dict(backbone=dict(arch='s'))
