"""Pretraining of the demo, too short to learn anything.

    SMOKE=1 make demo    # tools/dist_train.sh configs/benchmarks/smoke/pretrain.py 2

The result means nothing: not run for one.
"""

_base_ = '../demo/pretrain.py'
train_cfg = dict(max_epochs=4)
default_hooks = dict(
    checkpoint=dict(interval=1), reconstruction=dict(interval=1), probe=dict(interval=2)
)
