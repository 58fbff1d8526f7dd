"""Cascade Mask R-CNN on AdPE ViT-B (relative positions) as ViTDet, COCO, 100 epochs.

    NNODES=4 tools/dist_train.sh configs/det/cascade-mask-rcnn_adpe-vit-b_100e_coco.py 8
    tools/dist_test.sh configs/det/cascade-mask-rcnn_adpe-vit-b_100e_coco.py CHECKPOINT 8

For another pretraining add ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box / mask: the paper's abstract gives a gain of 3.2 / 1.6 over 'the MAE with the ViT-B
backbone', no figures and no detector, see README.md; MAE in this detector with absolute positions
(facebookresearch/detectron2, projects/ViTDet/README.md): 54.0 / 46.7; here: not run.
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco_lsj.py',
    '../_base_/schedules/det_100e.py',
    '../_base_/det_runtime.py',
]
