"""Official pretraining schedule: AdamW, 400 epochs of which 20 warm up, batch 4096, bfloat16."""

optim_wrapper = dict(
    type='adpe_mm.AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(
        type='AdamW',
        lr=2.4e-3,  # base lr 1.5e-4 * 4096 / 256
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
    ),
    accumulative_counts=2,  # 8 GPUs x 256 x 2 = 4096
    constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(ascent=dict(lr=2.4e-3)),
)
# The lr above is for 4096 images an optimiser step; it follows the real global batch.
auto_scale_lr = dict(enable=True, base_batch_size=4096)

param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=20 / 400),
    dict(type='adpe_mm.CosineAnnealingLR', begin=20 / 400, eta_min=0.0),
]
train_cfg = dict(type='adpe_mm.ExactEpochTrainLoop', max_epochs=400)
