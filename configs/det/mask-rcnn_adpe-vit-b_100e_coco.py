"""Mask R-CNN on AdPE ViT-B (relative positions) as ViTDet, COCO, 100 epochs.

    NNODES=4 tools/dist_train.sh configs/det/mask-rcnn_adpe-vit-b_100e_coco.py 8    # 32 GPUs x 2
    tools/dist_test.sh configs/det/mask-rcnn_adpe-vit-b_100e_coco.py CHECKPOINT 8

For another pretraining add ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

AP box / mask: the paper gives none of this detector, see README.md for what it says; MAE in this
detector with absolute positions (facebookresearch/detectron2, projects/ViTDet/README.md):
51.6 / 45.9; here: not run.
"""

_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco_lsj.py',
    '../_base_/schedules/det_100e.py',
    '../_base_/det_runtime.py',
]
