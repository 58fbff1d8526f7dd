"""AdPE on mini scenes: relative positions in coordinate mode, a small ViT with patches of 8 px.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_mini.py 2

Measured (two cores of an AMD EPYC, torch 2.11.0, seed 0, two processes): loss on raw pixels from
1.27 (first 20 iterations) to 0.59 (last 20) in 2.9 minutes, stopped and resumed on the way.
"""

_base_ = './maeplus_vit-mini_mini.py'
model = dict(
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='coordinate',
        norm='linf',
        eps=3.0,  # patches
    ),
)
# In minutes on crops of 6 x 6 patches, the recipe's radius of 1 and the network's own lr hardly
# change the task (docs/mini_benchmark.md).
optim_wrapper = dict(paramwise_cfg=dict(ascent=dict(lr=1e-2)))
