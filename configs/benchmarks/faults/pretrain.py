"""Pretraining that the fault campaign kills and stops: seconds long, with all that has a state.

    python tools/analysis_tools/fault_campaign.py --task pretrain
    python tools/train.py configs/benchmarks/faults/pretrain.py

Five iterations per epoch, and two of them per optimiser step: an epoch ends between two steps. The
result means nothing: not run for one.
"""

_base_ = '../../pretrain/adpe_vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        drop_path_rate=0.1,
    ),
    neck=dict(embed_dims=32, num_layers=1, num_heads=2),
)
train_dataloader = dict(batch_size=8, num_workers=2)
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_epochs=3)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
    reconstruction=dict(interval=2),
    ema=dict(type='adpe_mm.EMAHook', momentum=0.1),
)
log_processor = dict(window_size=1)
