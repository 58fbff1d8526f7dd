"""Fine-tuning of ViT-L and ViT-H for 50 epochs, 5 of which warm up, as MAE's FINETUNE.md."""

_base_ = './finetune_100e.py'
optim_wrapper = dict(
    optimizer=dict(lr=4e-3),  # base lr 1e-3 * 1024 / 256
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 50),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 50, eta_min_ratio=1e-6 / 4e-3),
]
train_cfg = dict(max_epochs=50)
