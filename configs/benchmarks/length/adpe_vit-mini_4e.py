"""AdPE of the mini benchmark, 4 epochs instead of 8.

    ENTRIES=configs/benchmarks/length/adpe_vit-mini_4e.py TASKS=cls make mini-benchmark
    tools/dist_train.sh configs/benchmarks/length/adpe_vit-mini_4e.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../mini/adpe_vit-mini_mini.py'
train_cfg = dict(max_epochs=4)
_base_.param_scheduler[0].update(end=1 / 4)
_base_.param_scheduler[1].update(begin=1 / 4)
