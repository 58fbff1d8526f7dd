"""AdPE, ViT-H/14, 1600 epochs, with parameters and optimiser sharded over the GPUs (FSDP).

    export NNODES=4 NODE_RANK=... MASTER_ADDR=...
    tools/dist_train.sh configs/pretrain/adpe_vit-h_1600e_fsdp.py 8

32 GPUs x 128 images = 4096. The adversary's parameters are sharded too, which is why its
projection must be per element: 'linf'. Checkpoints are whole, and load into the other configs.

No published result; here: not run. Rehearsed with two CPU processes, a few iterations, by
    --cfg-options strategy.model_wrapper.device_id=cpu model.backbone.arch=ti
"""

_base_ = './adpe_vit-h_1600e.py'
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=1)
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy='adpe_mm.engine.fsdp.wrap_blocks',
        use_orig_params=True,
    ),
    state_dict_cfg='full',
)
