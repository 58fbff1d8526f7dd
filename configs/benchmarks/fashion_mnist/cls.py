"""Classification of Fashion-MNIST with 20 labels for each class, 60 epochs.

    tools/benchmarks/fashion_mnist.sh
    tools/dist_train.sh configs/benchmarks/fashion_mnist/cls.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../cls/adpe-vit-mini_mini.py'
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(img_size=28, patch_size=4),
    head=dict(num_classes=10),
)
data = dict(dataset=dict(data_root='{{$FASHION_MNIST:data/fashion_mnist}}'))
train_dataloader = dict(data, batch_size=32)
val_dataloader = test_dataloader = dict(data, batch_size=200)
_base_.train_dataloader.dataset.pipeline[1].update(scale=28)
_base_.val_dataloader.dataset.pipeline[1].update(scale=28)
_base_.test_dataloader.dataset.pipeline[1].update(scale=28)
train_cfg = dict(max_epochs=60, val_interval=61)
_base_.param_scheduler[0].update(end=1 / 60)
_base_.param_scheduler[1].update(begin=1 / 60)
del data
