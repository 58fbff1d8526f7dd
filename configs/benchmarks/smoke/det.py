"""Detection of the demo, too short to learn anything.

    SMOKE=1 make demo    # tools/dist_train.sh configs/benchmarks/smoke/det.py 2

The result means nothing: not run for one.
"""

_base_ = '../../det/mask-rcnn_adpe-vit-mini_mini.py'
train_cfg = dict(max_iters=4, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=4))
