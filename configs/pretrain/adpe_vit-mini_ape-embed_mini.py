"""AdPE on mini scenes: absolute positions in embedding mode.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_ape-embed_mini.py 2

Measured: see docs/mini_benchmark.md.
"""

_base_ = './maeplus_vit-mini_ape_mini.py'
model = dict(
    adversary=dict(type='adpe_mm.AdversarialPosition', mode='embedding'),
)
