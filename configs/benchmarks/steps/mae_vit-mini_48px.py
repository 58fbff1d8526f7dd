"""mmpretrain's MAE on four crops of 48 px, as MAE+.

    ENTRIES=configs/benchmarks/steps/mae_vit-mini_48px.py make mini-benchmark
    tools/dist_train.sh configs/benchmarks/steps/mae_vit-mini_48px.py 1

One step between mmpretrain's MAE and AdPE. Measured: see docs/mini_benchmark.md.
"""

_base_ = '../mini/mae_vit-mini_mini.py'
model = dict(backbone=dict(img_size=48), neck=dict(num_patches=36))
_base_.train_dataloader.dataset.pipeline[0].update(num_crops=4, size=48)
