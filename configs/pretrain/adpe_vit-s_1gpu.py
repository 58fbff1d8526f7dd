"""AdPE on one GPU of 24 GB and images of one's own: ViT-S, relative positions, coordinate mode.

    python tools/train.py configs/pretrain/adpe_vit-s_1gpu.py \\
        --cfg-options train_dataloader.dataset.data_root=FOLDER

For 100 000 images below FOLDER and about a day. A step is 512 images instead of 4096, and the lr
follows it. The decoder is 256 wide and 4 deep: the recipe's would cost more than this
encoder, and MAE's paper (table 1, ViT-L) finds 0.1 points of ImageNet top-1 between decoders of 1
to 8 blocks and of 128 to 512 channels.

An estimate, no measurement: 31.5 GFLOP per image, 11.9 GB, and 16 hours at 21 TFLOP/s, by

    python tools/analysis_tools/plan_run.py configs/pretrain/adpe_vit-s_1gpu.py --gpus 1 \\
        --images 100000 --peak-tflops 71 --share 0.3 --memory 24

How good it becomes on so few images is not known: not run.
"""

_base_ = './adpe_vit-b_400e.py'
model = dict(
    backbone=dict(arch='s'),
    neck=dict(embed_dims=256, num_layers=4, num_heads=8),
)
train_dataloader = dict(
    batch_size=256,
    dataset=dict(data_root='data/own', data_prefix=dict(img_path='')),
)
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_epochs=400)
