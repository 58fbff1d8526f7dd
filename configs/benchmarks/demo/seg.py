"""Segmentation of the demo: a linear layer on each patch, fine-tuned with the encoder.

    make demo    # tools/dist_train.sh configs/benchmarks/demo/seg.py 1

Measured: see docs/demo.md.
"""

_base_ = '../../seg/upernet_adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(out_indices=(3,), final_norm=True),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=64,
        channels=64,
        in_index=0,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=9,
        align_corners=False,
        # Three quarters of the pixels are background, the last class: as little as this it
        # weighs, or nothing else is learnt for the first half of the training.
        loss_decode=dict(type='CrossEntropyLoss', class_weight=[1.0] * 8 + [0.15]),
    ),
    auxiliary_head=None,
)
train_dataloader = dict(batch_size=32)  # one process
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(val_interval=401)
