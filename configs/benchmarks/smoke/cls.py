"""Classification of the demo, too short to learn anything.

    SMOKE=1 make demo    # tools/dist_train.sh configs/benchmarks/smoke/cls.py 2

The result means nothing: not run for one.
"""

_base_ = '../demo/cls.py'
train_cfg = dict(max_epochs=1, val_interval=2)
