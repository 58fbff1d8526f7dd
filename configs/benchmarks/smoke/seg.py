"""Segmentation of the demo, too short to learn anything.

    SMOKE=1 make demo    # tools/dist_train.sh configs/benchmarks/smoke/seg.py 2

The result means nothing: not run for one.
"""

_base_ = '../demo/seg.py'
train_cfg = dict(max_iters=4, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=4))
