"""MAE+ with relative positions (iRPE in every block of encoder and decoder)."""

_base_ = './maeplus_vit-b_ape.py'
model = dict(backbone=dict(position='rpe', rpe_lookup='bucket'))
