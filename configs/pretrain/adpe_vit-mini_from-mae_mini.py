"""AdPE on mini scenes that goes on from MAE: `adpe_vit-mini_mini.py` with the encoder of
`mae_vit-mini_mini.py`.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/pretrain/mae_vit-mini_mini.py 2
    python tools/model_converters/mae_to_adpe.py work_dirs/mae_vit-mini_mini/epoch_24.pth \\
        work_dirs/mae_vit-mini_rpe.pth --rpe-lookup interpolate --num-heads 4
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_from-mae_mini.py 2

Measured against scratch, with a source of more scenes: see README.md.
"""

_base_ = './adpe_vit-mini_mini.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/mae_vit-mini_rpe.pth',
            prefix='backbone.',
        ),
    ),
)
