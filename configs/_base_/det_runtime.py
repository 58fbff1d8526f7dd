"""What every detection run shares."""

_base_ = './default_runtime.py'
default_scope = 'mmdet'
custom_imports = dict(imports=['adpe_mm.detection'])
default_hooks = dict(
    # By iteration: there are no epochs.
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5000),
    visualization=dict(type='DetVisualizationHook'),
)
visualizer = dict(
    type='DetLocalVisualizer',
    name='visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
log_processor = dict(by_epoch=False)
