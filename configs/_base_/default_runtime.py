"""What every run shares: hooks, logs, checkpoints, seeds.

A config adds a hook by a name of its own, and leaves one out by None:

    default_hooks = dict(ema=dict(type='adpe_mm.EMAHook'), checkpoint_fit=None)
"""

runner_type = 'adpe_mm.AdPERunner'

default_hooks = dict(
    runtime_info=dict(type='adpe_mm.DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='adpe_mm.SafeCheckpointHook', interval=10, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    iteration_seed=dict(type='adpe_mm.IterationSeedHook'),
    checkpoint_fit=dict(type='adpe_mm.CheckpointFitHook'),
    finite=dict(type='adpe_mm.FiniteHook'),
    tf32=dict(type='adpe_mm.TF32EvaluationHook'),  # of validation and tests alone
    unreadable_images=dict(type='adpe_mm.UnreadableImagesHook', max_fraction=0.05),
)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo where there is no GPU
)
log_processor = dict(window_size=50)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
