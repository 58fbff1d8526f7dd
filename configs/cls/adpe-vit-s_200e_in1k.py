"""Fine-tune AdPE ViT-S (relative positions, coordinate mode) on ImageNet-1K for 200 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-s_200e_in1k.py 8

MAE and AdPE have no ViT-S: epochs, warm-up, lr, layer decay and drop path are iBOT's (its
`evaluation/README.md`, `run_class_finetuning.py` and `run.sh`), all else is that of ViT-B.

Top-1: none published; iBOT 82.3 (its README); here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_50e.py',
    '../_base_/cls_runtime.py',
]
model = dict(
    backbone=dict(
        arch='s',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-s_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=384),
)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=20 / 200),
    dict(type='adpe_mm.CosineAnnealingLR', begin=20 / 200, eta_min_ratio=1e-6 / 4e-3),
]
train_cfg = dict(max_epochs=200)
