"""AdPE on the demo's 3000 scenes without labels, probed four times on the way.

    make demo    # tools/dist_train.sh configs/benchmarks/demo/pretrain.py 2

Measured: see docs/demo.md.
"""

_base_ = '../../pretrain/adpe_vit-mini_mini.py'
train_dataloader = dict(
    dataset=dict(data_root='{{$MINI_DATA:data/demo}}', data_prefix=dict(img_path='unlabelled')),
)
train_cfg = dict(max_epochs=16)
_base_.param_scheduler[0].update(end=1 / 16)
_base_.param_scheduler[1].update(begin=1 / 16)
default_hooks = dict(
    checkpoint=dict(interval=2),
    reconstruction=dict(interval=4),
    probe=dict(type='adpe_mm.ProbeHook', data='{{$MINI_DATA:data/demo}}/imagenet', interval=4),
)
