"""Mask R-CNN on the small ViT of `adpe_vit-mini_mini.py` as ViTDet; mini scenes in COCO's layout.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-mini_mini.py 2

Eight classes. From scratch: ``--cfg-options model.backbone.init_cfg=None``.

Measured: see docs/mini_benchmark.md.
"""

_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco_lsj.py',
    '../_base_/schedules/det_100e.py',
    '../_base_/det_runtime.py',
]
# Patches of 8 px: a pyramid of 4, 8, 16 and 32 px, one level fewer than the recipe's.
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256
        ),
        img_size=64,
        pretrain_img_size=48,
        patch_size=8,
        window_size=4,
        global_blocks=(1, 3),
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/adpe_vit-mini_mini/epoch_24.pth'),
    ),
    neck=dict(in_channels=64, out_channels=32, scale_factors=(2, 1, 0.5)),
    rpn_head=dict(
        in_channels=32,
        feat_channels=32,
        anchor_generator=dict(scales=[3], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32, featmap_strides=[4, 8, 16], finest_scale=16),
        bbox_head=dict(in_channels=32, conv_out_channels=32, fc_out_channels=128, num_classes=8),
        mask_roi_extractor=dict(out_channels=32, featmap_strides=[4, 8, 16], finest_scale=16),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_classes=8),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(sampler=dict(num=16)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=10)),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root='{{$MINI_DATA:data/mini}}/coco',
        metainfo=dict(
            classes=('corner', 'cross', 'cup', 'flag', 'snake', 'stairs', 'tee', 'wreath')
        ),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='adpe_mm.LoadInstances', with_bbox=True, with_mask=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomResize', scale=(64, 64), ratio_range=(0.8, 1.25), keep_ratio=True),
            dict(
                type='RandomCrop',
                crop_type='absolute_range',
                crop_size=(64, 64),
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='{{$MINI_DATA:data/mini}}/coco',
        metainfo=dict(
            classes=('corner', 'cross', 'cup', 'flag', 'snake', 'stairs', 'tee', 'wreath')
        ),
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='adpe_mm.LoadInstances', with_bbox=True, with_mask=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{{$MINI_DATA:data/mini}}/coco/annotations/instances_val2017.json')
test_evaluator = val_evaluator
# 2 processes x 8. A small network on few images bears a larger lr than the recipe's.
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=40 / 400),
    # 8/9 and 26/27 of the way, as detectron2.
    dict(type='MultiStepLR', milestones=[163889 / 184375, 177546 / 184375], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400))
log_processor = dict(window_size=20)
