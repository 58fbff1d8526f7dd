"""160k iterations, 1500 of which warm up: AdamW, layer-wise lr decay, linear decay, bfloat16."""

optim_wrapper = dict(
    type='adpe_mm.AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(
        type='AdamW',
        lr=2e-4,  # the official instructions search 5e-5 to 3e-4
        betas=(0.9, 0.999),
        weight_decay=0.05,
        fused=True,
    ),
    constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=['pos_embed', 'cls_token']),
)
# 8 GPUs x 2; the lr follows the real global batch.
auto_scale_lr = dict(enable=True, base_batch_size=16)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=1500 / 160000),
    dict(type='PolyLR', begin=1500 / 160000, eta_min=0.0, power=1.0),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
