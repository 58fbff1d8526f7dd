"""AdPE on mini scenes: relative positions in coordinate mode, ViT-Ti with patches of 8 px.

python tools/dataset_converters/make_mini.py data/mini
tools/dist_train.sh configs/pretrain/adpe_vit-ti_mini.py 2
"""

_base_ = './maeplus_vit-ti_mini.py'
model = dict(
    adversary=dict(
        type='adpe_mm.AdversarialPosition',
        mode='coordinate',
        norm='linf',
        eps=1.0,  # patches
    ),
)
