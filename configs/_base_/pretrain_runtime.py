"""What every pretraining run shares."""

_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
custom_hooks = [
    dict(type='adpe_mm.IterationSeedHook'),
    dict(type='adpe_mm.UnreadableImagesHook', max_fraction=0.05),
    dict(type='adpe_mm.AdversaryProjectionHook', interval=10),
    dict(type='adpe_mm.CheckpointFitHook'),
    dict(type='adpe_mm.ReconstructionHook', interval=10),
]
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
