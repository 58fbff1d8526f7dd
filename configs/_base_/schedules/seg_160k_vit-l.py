"""`seg_160k.py` with the lr and the layer decay of ViT-L.

The official instructions are for ViT-B. iBOT's recipe of UperNet on a ViT-L (evaluation/
semantic_segmentation/configs/upernet/vit_large_512_ade20k_160k.py) and BEiT's in mmsegmentation
(configs/beit/beit-large_upernet_8xb1-amp-160k_ade20k-640x640.py) both have 2e-5 and 0.95. With B's
2e-4 and a decay of 0.75 the head would learn 10 times faster than theirs, the patch embedding 37
times more slowly.
"""

_base_ = './seg_160k.py'
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
