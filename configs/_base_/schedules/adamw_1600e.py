"""Official pretraining schedule: AdamW, 1600 epochs of which 40 warm up, batch 4096, bfloat16."""

_base_ = './adamw_400e.py'
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=40 / 1600),
    dict(type='adpe_mm.CosineAnnealingLR', begin=40 / 1600, eta_min=0.0),
]
train_cfg = dict(max_epochs=1600)
