"""AdPE's own COCO recipe: Cascade Mask R-CNN as ViTDet, 8 GPUs x 4, 400k iterations, lr 5e-5.

    tools/dist_train.sh configs/det/cascade-mask-rcnn_adpe-vit-b_400k_coco.py 8
    tools/dist_test.sh configs/det/cascade-mask-rcnn_adpe-vit-b_400k_coco.py CHECKPOINT 8

Of maple-research-lab/AdPE: README.md, section 'COCO detection', states the length and the batch,
detection/mask_rcnn_vitdet_b_100ep.py halves ViTDet's lr. Its backbone is detectron2's, which has
no iRPE: the same network is cascade-mask-rcnn_adpe-vit-b-ape_400k_coco.py.

AP box / mask (paper): a gain of 3.2 / 1.6 over 'the MAE with the ViT-B backbone', no figures; see
README.md. Here: not run.
"""

_base_ = './cascade-mask-rcnn_adpe-vit-b_100e_coco.py'
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=5e-5))
auto_scale_lr = dict(base_batch_size=32)
# 108.5 epochs of 118000 images; warm-up and steps at the same fractions, as in detectron2.
train_cfg = dict(max_iters=400000)
