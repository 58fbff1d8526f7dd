"""UperNet on AdPE ViT-L (relative positions), ADE20K, 640 x 640, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-l_160k_ade20k-640x640.py 8

The size that BEiT and iBOT also train ViT-L at. Absolute positions are interpolated to 40 x 40
patches, relative ones need no change.

The paper gives no result for it; here: not run.
"""

_base_ = [
    '../_base_/models/upernet_vit-l.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/seg_160k_vit-l.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(img_size=640),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
