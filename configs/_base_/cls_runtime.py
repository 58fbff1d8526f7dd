"""What every classification run shares."""

_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='auto'),
    visualization=dict(type='VisualizationHook'),
)
visualizer = dict(
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
