"""Faster R-CNN on the small ViT of `adpe_vit-mini_mini.py` as ViTDet: boxes of mini scenes alone.

    python tools/dataset_converters/make_mini.py data/mini --size 64 --others 0 --variation 30
    tools/dist_train.sh configs/det/faster-rcnn_adpe-vit-mini_mini.py 2

For objects that have boxes and no masks. From scratch:
``--cfg-options model.backbone.init_cfg=None``.

AP box: not run.
"""

_base_ = './mask-rcnn_adpe-vit-mini_mini.py'
model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
_base_.train_dataloader.dataset.pipeline[1].update(with_mask=False)
_base_.val_dataloader.dataset.pipeline[2].update(with_mask=False)
test_dataloader = _base_.val_dataloader
val_evaluator = test_evaluator = dict(metric='bbox')
