"""AdPE on mini scenes: absolute positions in coordinate mode.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_ape-coord_mini.py 2

Measured: see docs/mini_benchmark.md.
"""

_base_ = './adpe_vit-mini_mini.py'
model = dict(backbone=dict(position='ape'))
