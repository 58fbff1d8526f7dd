"""Fine-tune AdPE ViT-B (relative positions, coordinate mode) on ImageNet-1K for 100 epochs.

    tools/dist_train.sh configs/cls/adpe-vit-b_100e_in1k.py 8
    tools/dist_test.sh configs/cls/adpe-vit-b_100e_in1k.py CHECKPOINT 8

Top-1 (official README): 84.4, embedding mode 84.3, MAE+ 84.2; here: not run.
"""

_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/cls_runtime.py',
]
# The official batch for relative positions: 8 GPUs x 128 x 4 = 4096.
optim_wrapper = dict(
    accumulative_counts=4,
    optimizer=dict(lr=8e-3),  # base lr 5e-4 * 4096 / 256
)
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 100),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 100, eta_min_ratio=1e-6 / 8e-3),
]
