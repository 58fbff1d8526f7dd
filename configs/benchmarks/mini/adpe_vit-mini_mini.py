"""AdPE, relative positions, coordinate mode, on the 8000 unlabelled scenes of the mini benchmark.

    ENTRIES=adpe_vit-mini_mini make mini-benchmark
    tools/dist_train.sh configs/benchmarks/mini/adpe_vit-mini_mini.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../pretrain/adpe_vit-mini_mini.py'
train_dataloader = dict(
    batch_size=32,  # one process
    dataset=dict(
        data_root='{{$MINI_DATA:data/mini_benchmark}}', data_prefix=dict(img_path='unlabelled')
    ),
)
train_cfg = dict(max_epochs=8)
_base_.param_scheduler[0].update(end=1 / 8)
_base_.param_scheduler[1].update(begin=1 / 8)
