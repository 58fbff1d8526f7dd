"""Fine-tune AdPE ViT-L (relative positions, coordinate mode) on ImageNet-1K for 50 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-l_50e_in1k.py 8

Top-1 (official README): 86.3; here: not run.
"""

_base_ = './adpe-vit-l-ape_50e_in1k.py'
model = dict(
    backbone=dict(
        position='rpe',
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_1600e/epoch_1600.pth'),
    ),
)
# The official batch for relative positions: 8 GPUs x 128 x 4 = 4096.
optim_wrapper = dict(
    accumulative_counts=4,
    optimizer=dict(lr=1.6e-2),  # base lr 1e-3 * 4096 / 256
)
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 50),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 50, eta_min_ratio=1e-6 / 1.6e-2),
]
