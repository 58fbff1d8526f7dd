"""Segmentation of the demo: a linear layer on each patch, fine-tuned with the encoder.

    make demo    # tools/dist_train.sh configs/benchmarks/demo/seg.py 2

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
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
data = dict(dataset=dict(data_root='{{$MINI_DATA:data/demo}}/ade'))
train_dataloader = val_dataloader = test_dataloader = data
del data
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=400, val_interval=401)
