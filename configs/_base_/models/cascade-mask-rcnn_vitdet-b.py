"""Cascade Mask R-CNN on ViTDet-B as in detectron2: three box heads, each for a higher overlap.

One mask head, which learns from the first stage's proposals; see `CascadeRoIHead`.
"""

_base_ = './mask-rcnn_vitdet-b.py'
model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='adpe_mm.CascadeRoIHead',
        overlaps=(0.6, 0.7),  # of the second and third stage; the first's is 0.5
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                norm_cfg=dict(type='mmpretrain.LN2d', eps=1e-6),
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[1 / 10 / stage, 1 / 10 / stage, 1 / 5 / stage, 1 / 5 / stage],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            )
            for stage in (1, 2, 3)
        ],
    ),
)
