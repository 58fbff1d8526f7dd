"""UperNet on AdPE ViT-L (relative positions), ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-l_160k_ade20k-512x512.py 8

lr 2e-5 with a layer decay of 0.95, iBOT's and BEiT's for ViT-L: see `seg_160k_vit-l.py`.

The paper gives no result for it; here: not run.
"""

_base_ = [
    '../_base_/models/upernet_vit-l.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/seg_160k_vit-l.py',
    '../_base_/seg_runtime.py',
]
