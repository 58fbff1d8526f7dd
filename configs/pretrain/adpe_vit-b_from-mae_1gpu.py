"""AdPE from public weights of MAE, on one GPU of 24 GB and images of one's own: ViT-B.

    python tools/model_converters/mae_to_adpe.py mae_pretrain_vit_base.pth \\
        work_dirs/mae_vit-b_rpe.pth --rpe-lookup interpolate
    python tools/train.py configs/pretrain/adpe_vit-b_from-mae_1gpu.py \\
        --cfg-options train_dataloader.dataset.data_root=FOLDER

The encoder is MAE's, with relative positions in coordinate mode that begin at 0; decoder and mask
token are new. The file is facebookresearch/mae's (its README, 'Pre-trained checkpoints'), which has
ViT-B, -L and -H; for the others add ``--cfg-options model.backbone.arch=l``. Time and memory are
those of `adpe_vit-b_1gpu.py`. The lr is that of training from scratch and was not searched.

Here: not run, but on mini scenes (README.md, 'From public weights of MAE').
"""

_base_ = './adpe_vit-b_1gpu.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/mae_vit-b_rpe.pth',
            prefix='backbone.',
        ),
    ),
)
