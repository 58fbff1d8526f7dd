"""Classification of the mini benchmark: 20 epochs of 800 labelled scenes.

    TASKS=cls make mini-benchmark
    tools/dist_train.sh configs/benchmarks/mini/cls.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../cls/adpe-vit-mini_mini.py'
data = dict(dataset=dict(data_root='{{$MINI_DATA:data/mini_benchmark}}/imagenet'))
train_dataloader = dict(data, batch_size=32)  # one process
val_dataloader = test_dataloader = data
train_cfg = dict(max_epochs=20, val_interval=21)
_base_.param_scheduler[0].update(end=1 / 20)
_base_.param_scheduler[1].update(begin=1 / 20)
del data
