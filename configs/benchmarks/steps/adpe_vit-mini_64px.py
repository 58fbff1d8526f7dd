"""AdPE, relative positions, pretrained on whole images: two crops of 64 px, as MAE.

    ENTRIES=configs/benchmarks/steps/adpe_vit-mini_64px.py make mini-benchmark
    tools/dist_train.sh configs/benchmarks/steps/adpe_vit-mini_64px.py 1

One step between mmpretrain's MAE and AdPE. Measured: see docs/mini_benchmark.md.
"""

_base_ = '../mini/adpe_vit-mini_mini.py'
model = dict(backbone=dict(img_size=64))
_base_.train_dataloader.dataset.pipeline[0].update(num_crops=2, size=64)
