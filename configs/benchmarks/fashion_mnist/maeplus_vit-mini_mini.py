"""MAE+, relative positions, on the 60,000 images of Fashion-MNIST without labels.

    ENTRIES=maeplus_vit-mini_mini tools/benchmarks/fashion_mnist.sh
    tools/dist_train.sh configs/benchmarks/fashion_mnist/maeplus_vit-mini_mini.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../pretrain/maeplus_vit-mini_mini.py'
model = dict(backbone=dict(img_size=28, patch_size=4))  # 7 x 7 patches of an image
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root='{{$FASHION_MNIST:data/fashion_mnist}}', data_prefix=dict(img_path='unlabelled')
    ),
)
_base_.train_dataloader.dataset.pipeline[0].update(size=28, num_crops=2)
train_cfg = dict(max_epochs=2)
_base_.param_scheduler[0].update(end=1 / 2)
_base_.param_scheduler[1].update(begin=1 / 2)
