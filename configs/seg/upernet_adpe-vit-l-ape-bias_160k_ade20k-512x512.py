"""UperNet on AdPE ViT-L with BEiT's relative position bias beside absolute positions, ADE20K,
512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-l-ape-bias_160k_ade20k-512x512.py 8

The network that MAE was published with, see `upernet_adpe-vit-b-ape-bias_160k_ade20k-512x512.py`.

mIoU of MAE: 53.6 (its paper); of AdPE: the paper gives none; here: not run.
"""

_base_ = './upernet_adpe-vit-l-ape_160k_ade20k-512x512.py'
model = dict(backbone=dict(rel_pos_bias=True))
