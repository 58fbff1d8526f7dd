"""Official pretraining schedule: AdamW, 1600 epochs of which 40 warm up, batch 4096, bfloat16."""

_base_ = './adamw_400e.py'
param_scheduler = [
    dict(
        type='adpe_mm.LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=40,
        convert_to_iter_based=True,
    ),
    dict(
        type='adpe_mm.CosineAnnealingLR',
        T_max=1560,
        eta_min=0.0,
        by_epoch=True,
        begin=40,
        end=1600,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=1600)
