"""Categories of cut-outs on photographs, of objects that were never seen: 20 epochs of 800 images.

    TASKS=cls tools/benchmarks/photographs.sh
    tools/dist_train.sh configs/benchmarks/photographs/cls.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../cls/adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    ),
    head=dict(in_channels=128),
)
data = dict(dataset=dict(data_root='{{$PHOTOGRAPHS:data/photographs}}/imagenet'))
train_dataloader = dict(data, batch_size=32)  # one process
val_dataloader = test_dataloader = data
train_cfg = dict(max_epochs=20, val_interval=21)
_base_.param_scheduler[0].update(end=1 / 20)
_base_.param_scheduler[1].update(begin=1 / 20)
del data
