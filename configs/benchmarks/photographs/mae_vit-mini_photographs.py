"""mmpretrain's MAE, on 8000 images of cut-outs on photographs.

    ENTRIES=mae_vit-mini_photographs tools/benchmarks/photographs.sh
    tools/dist_train.sh configs/benchmarks/photographs/mae_vit-mini_photographs.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../pretrain/mae_vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    ),
)
train_dataloader = dict(
    batch_size=32,  # one process
    dataset=dict(
        data_root='{{$PHOTOGRAPHS:data/photographs}}', data_prefix=dict(img_path='unlabelled')
    ),
)
train_cfg = dict(max_epochs=16)
_base_.param_scheduler[0].update(end=1 / 16)
_base_.param_scheduler[1].update(begin=1 / 16)
