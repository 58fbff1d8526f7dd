"""Fine-tune AdPE ViT-L (relative positions) on ImageNet-1K for 50 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-l_50e_in1k.py 8

Top-1 (paper): 86.3; here: not run.
"""

_base_ = './adpe-vit-b_100e_in1k.py'
model = dict(
    backbone=dict(
        arch='l',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-l_1600e/epoch_1600.pth'),
    ),
    head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 50),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 50, eta_min=1e-6),
]
