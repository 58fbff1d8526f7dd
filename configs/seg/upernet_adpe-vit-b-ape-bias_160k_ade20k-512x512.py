"""UperNet on AdPE ViT-B with BEiT's relative position bias beside absolute positions, ADE20K,
512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-b-ape-bias_160k_ade20k-512x512.py 8
    tools/dist_train.sh configs/seg/upernet_adpe-vit-b-ape-bias_160k_ade20k-512x512.py 8 \\
        --cfg-options model.backbone.init_cfg.checkpoint=mae.pth  # MAE, by mae_to_adpe.py

The network that MAE was published with: the bias is 0 at first and learns in fine-tuning. Of
mmsegmentation's MAE (mmseg/models/backbones/mae.py) its layer scale, 1 at first, is left out: it
folds into the layer before it. Its lr is 1e-4, where AdPE's instructions have 2e-4.

mIoU of MAE: 48.1 (its paper), 48.13 (mmsegmentation, configs/mae/metafile.yaml); of AdPE: the paper
gives none; here: not run.
"""

_base_ = './upernet_adpe-vit-b-ape_160k_ade20k-512x512.py'
model = dict(backbone=dict(rel_pos_bias=True))
