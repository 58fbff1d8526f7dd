"""UperNet on AdPE ViT-B (relative positions, coordinate mode), ADE20K, 512 x 512, 160k iterations.

    tools/dist_train.sh configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py 8
    tools/dist_test.sh configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py CHECKPOINT 8

lr 2e-4 is AdPE's: the official instructions search in [5e-5, 3e-4]; mmsegmentation's MAE has 1e-4.
For another pretraining add ``--cfg-options model.backbone.init_cfg.checkpoint=PATH``.

At one scale the paper gives no result (its 50.7 is of six: see
`upernet_adpe-vit-b_160k_ade20k-512x512-ms.py`); here: not run.
"""

_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]
