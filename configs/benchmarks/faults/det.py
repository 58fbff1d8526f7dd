"""Detection that the fault campaign kills and stops: seconds long, with all that has a state.

    python tools/analysis_tools/fault_campaign.py --task det
    python tools/train.py configs/benchmarks/faults/det.py

Two iterations per optimiser step, and a checkpoint after every third. The result means nothing: not
run for one.
"""

_base_ = '../../det/mask-rcnn_adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        global_blocks=(1,),
        drop_path_rate=0.1,
        init_cfg=None,
    ),
    neck=dict(in_channels=32, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, conv_out_channels=16, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=50, max_per_img=10), rcnn=dict(sampler=dict(num=8))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=10), rcnn=dict(max_per_img=5, score_thr=0.0)),
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_iters=12, val_interval=6)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=3, max_keep_ckpts=2, save_best='coco/bbox_mAP'),
)
log_processor = dict(window_size=1)
