"""Segmentation that the fault campaign kills and stops: seconds long, with all that has a state.

    python tools/analysis_tools/fault_campaign.py --task seg
    python tools/train.py configs/benchmarks/faults/seg.py

Two iterations per optimiser step, and a checkpoint after every third. The result means nothing: not
run for one.
"""

_base_ = '../../seg/upernet_adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        out_indices=(0, 0, 1, 1),
        drop_path_rate=0.1,
        init_cfg=None,
    ),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=16),
    auxiliary_head=dict(in_channels=32, channels=16),
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_iters=12, val_interval=6)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=3, max_keep_ckpts=2, save_best='mIoU')
)
log_processor = dict(window_size=1)
