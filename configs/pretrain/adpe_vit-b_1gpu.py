"""AdPE on one GPU of 24 GB and images of one's own: ViT-B, relative positions, coordinate mode.

    python tools/train.py configs/pretrain/adpe_vit-b_1gpu.py \\
        --cfg-options train_dataloader.dataset.data_root=FOLDER

As `adpe_vit-s_1gpu.py`, with fewer epochs in the day that it is to take.

An estimate, no measurement: 109 GFLOP per image, 11.9 GB, and 21 hours at 21 TFLOP/s, by

    python tools/analysis_tools/plan_run.py configs/pretrain/adpe_vit-b_1gpu.py --gpus 1 \\
        --images 100000 --peak-tflops 71 --share 0.3 --memory 24

How good it becomes on so few images is not known: not run. `adpe_vit-b_from-mae_1gpu.py` begins
from public weights of MAE instead.
"""

_base_ = './adpe_vit-s_1gpu.py'
model = dict(backbone=dict(arch='b'))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
train_cfg = dict(max_epochs=150)
