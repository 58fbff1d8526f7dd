"""What every pretraining run shares."""

_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
default_hooks = dict(
    adversary_projection=dict(type='adpe_mm.AdversaryProjectionHook', interval=10),
    reconstruction=dict(type='adpe_mm.ReconstructionHook', interval=10),
)
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
