"""ViTDet's 100 epochs of COCO: AdamW, layer-wise lr decay, two steps, bfloat16."""

optim_wrapper = dict(
    type='adpe_mm.AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
    constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
    # As detectron2: biases decay, and so do the norms of the pyramid and the heads.
    paramwise_cfg=dict(layer_decay_rate=0.7, decay_1d=True, no_decay=['pos_embed', 'ln1', 'ln2']),
)
# 32 GPUs x 2; the lr follows the real global batch.
auto_scale_lr = dict(enable=True, base_batch_size=64)

# 100 epochs = 184375 iterations * 64 / 118000 images
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, end=250 / 184375),
    # 8/9 and 26/27 of the way, as detectron2.
    dict(type='MultiStepLR', milestones=[163889 / 184375, 177546 / 184375], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
