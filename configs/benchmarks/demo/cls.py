"""Classification of the demo: 800 labelled scenes, 16 epochs.

    make demo    # tools/dist_train.sh configs/benchmarks/demo/cls.py 1

Measured: see docs/demo.md.
"""

_base_ = '../../cls/adpe-vit-mini_mini.py'
train_dataloader = dict(batch_size=32)  # one process
train_cfg = dict(max_epochs=16, val_interval=17)
_base_.param_scheduler[0].update(end=1 / 16)
_base_.param_scheduler[1].update(begin=1 / 16)
