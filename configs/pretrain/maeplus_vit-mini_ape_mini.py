"""MAE+ with absolute positions on mini scenes.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/maeplus_vit-mini_ape_mini.py 2

Measured: see docs/mini_benchmark.md.
"""

_base_ = './maeplus_vit-mini_mini.py'
model = dict(backbone=dict(position='ape'))
