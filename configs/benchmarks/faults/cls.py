"""Classification that the fault campaign kills and stops: seconds long, with all that has a state.

    python tools/analysis_tools/fault_campaign.py --task cls
    python tools/train.py configs/benchmarks/faults/cls.py

Five iterations per epoch, and two of them per optimiser step; mixup and CutMix, drop path, an
average of the weights, a best checkpoint. The result means nothing: not run for one.
"""

_base_ = '../../cls/adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        drop_path_rate=0.1,
        init_cfg=None,
    ),
    head=dict(in_channels=32),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=8)
val_dataloader = dict(batch_size=4)
test_dataloader = val_dataloader
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(
    logger=dict(interval=1),
    ema=dict(type='adpe_mm.EMAHook', momentum=0.1),
)
log_processor = dict(window_size=1)
