"""Segmentation of the mini benchmark: 600 steps of 16 labelled scenes.

    TASKS=seg make mini-benchmark
    tools/dist_train.sh configs/benchmarks/mini/seg.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../seg/upernet_adpe-vit-mini_mini.py'
data = dict(dataset=dict(data_root='{{$MINI_DATA:data/mini_benchmark}}/ade'))
train_dataloader = dict(data, batch_size=16)  # one process
val_dataloader = test_dataloader = data
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=600, val_interval=601)
_base_.param_scheduler[0].update(end=40 / 600)
_base_.param_scheduler[1].update(begin=40 / 600)
default_hooks = dict(checkpoint=dict(interval=600))
del data
