"""Fine-tuning of ViT-B for 100 epochs, 5 of which warm up: AdamW, layer-wise lr decay, bfloat16.

As MAE's FINETUNE.md. Every group of parameters has the same schedule times a factor, its floor
too (MAE's `util/lr_sched.py`): for the head that is 1e-6 at the batch that lr is stated for; at
another batch it follows lr, where MAE keeps 1e-6.
"""

optim_wrapper = dict(
    type='adpe_mm.AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(
        type='AdamW',
        lr=2e-3,  # base lr 5e-4 * 1024 / 256
        betas=(0.9, 0.999),
        weight_decay=0.05,
        fused=True,
    ),
    constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=['pos_embed', 'cls_token']),
)
# The lr above is for 1024 images an optimiser step; it follows the real global batch.
auto_scale_lr = dict(enable=True, base_batch_size=1024)

param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 100),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 100, eta_min_ratio=1e-6 / 2e-3),
]
train_cfg = dict(type='adpe_mm.ExactEpochTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
