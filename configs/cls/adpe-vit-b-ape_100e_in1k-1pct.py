"""Fine-tune AdPE ViT-B (absolute positions, coordinate mode) on 1 % of ImageNet-1K.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_100e_in1k-1pct.py 8

On the 12,811 images of SimCLR's list. As Semi-ViT's FINETUNE.md: without drop path, mixup, cutmix
and random erasing, and with a fifth of the lr of 10 %.

Top-1: none published; MAE 57.4 (Semi-ViT's README, on a list of its own); here: not run.
"""

_base_ = './adpe-vit-b-ape_100e_in1k-10pct.py'
model = dict(backbone=dict(drop_path_rate=0.0), train_cfg=dict(augments=None))
train_dataloader = dict(
    dataset=dict(
        subset='1percent.txt',
        pipeline=[
            step
            for step in _base_.train_dataloader.dataset.pipeline
            if step['type'] != 'RandomErasing'
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))  # base lr 5e-5 * 512 / 256
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 100),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 100, eta_min_ratio=1e-6 / 1e-4),
]
