"""Fine-tune AdPE ViT-B (absolute positions, coordinate mode) on 10 % of ImageNet-1K.

    tools/dist_train.sh configs/cls/adpe-vit-b-ape_100e_in1k-10pct.py 8

On the 128,116 images of SimCLR's list; configs/cls/README.md says where to get it. lr and batch are
those of Semi-ViT's FINETUNE.md, all else is that of the whole ImageNet.

Top-1: none published; MAE 73.7 (Semi-ViT's README, on a list of its own); here: not run.
"""

_base_ = './adpe-vit-b-ape_100e_in1k.py'
train_dataloader = dict(
    batch_size=64,  # 8 GPUs x 64 = 512
    dataset=dict(type='adpe_mm.ImageNetSubset', subset='10percent.txt'),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))  # base lr 2.5e-4 * 512 / 256
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type='adpe_mm.LinearLR', start_factor=1e-4, end=5 / 100),
    dict(type='adpe_mm.CosineAnnealingLR', begin=5 / 100, eta_min_ratio=1e-6 / 5e-4),
]
train_cfg = dict(val_interval=5)
