"""MAE+ of the mini benchmark, 16 epochs instead of 8.

    ENTRIES=configs/benchmarks/length/maeplus_vit-mini_16e.py TASKS=cls make mini-benchmark
    tools/dist_train.sh configs/benchmarks/length/maeplus_vit-mini_16e.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../mini/maeplus_vit-mini_mini.py'
train_cfg = dict(max_epochs=16)
_base_.param_scheduler[0].update(end=1 / 16)
_base_.param_scheduler[1].update(begin=1 / 16)
