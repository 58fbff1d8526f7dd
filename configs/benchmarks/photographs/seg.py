"""Segmentation of cut-outs on photographs: 600 steps of 16 labelled images.

    TASKS=seg tools/benchmarks/photographs.sh
    tools/dist_train.sh configs/benchmarks/photographs/seg.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../seg/upernet_adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        out_indices=(1, 2, 3, 5),
    ),
    neck=dict(embed_dim=128),
    decode_head=dict(in_channels=[128, 128, 128, 128]),
    auxiliary_head=dict(in_channels=128),
)
classes = ('mammal', 'bird', 'insect', 'fruit', 'vegetable', 'flower', 'coin', 'tool', 'background')
data = dict(dataset=dict(data_root='{{$PHOTOGRAPHS:data/photographs}}/ade'))
train_dataloader = dict(data, batch_size=16)  # one process
val_dataloader = test_dataloader = data
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=600, val_interval=601)
_base_.param_scheduler[0].update(end=40 / 600)
_base_.param_scheduler[1].update(begin=40 / 600)
default_hooks = dict(checkpoint=dict(interval=600))
del data
