"""Fine-tune AdPE ViT-B (absolute positions, coordinate mode) on ImageNet-1K for 100 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_100e_in1k.py 8

For MAE, MAE+ or the embedding mode give their checkpoint:
``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

Top-1 (official README, which does not name the epochs of pretraining): 84.2, embedding mode 84.1,
MAE+ 83.9; MAE 83.6 (its paper); here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        position='ape',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-b_ape-coord_1600e/epoch_1600.pth'),
    ),
)
