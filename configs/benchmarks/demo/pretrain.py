"""AdPE on the demo's 1600 scenes without labels; probes of the frozen features on the way.

    make demo    # tools/dist_train.sh configs/benchmarks/demo/pretrain.py 2

Measured: see docs/demo.md.
"""

_base_ = '../../pretrain/adpe_vit-mini_mini.py'
# In a few minutes on relative positions, a stronger adversary teaches more of the classes
# (docs/mini_benchmark.md, 'How strong an adversary').
model = dict(adversary=dict(eps=5.0))
optim_wrapper = dict(paramwise_cfg=dict(ascent=dict(lr=3e-2)))
train_dataloader = dict(
    dataset=dict(data_root='{{$MINI_DATA:data/mini}}', data_prefix=dict(img_path='unlabelled')),
)
default_hooks = dict(
    reconstruction=dict(interval=6),
    probe=dict(type='adpe_mm.ProbeHook', data='{{$MINI_DATA:data/mini}}/imagenet', interval=6),
)
