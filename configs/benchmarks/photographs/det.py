"""Detection of cut-outs on photographs: 400 steps of 16 labelled images.

    TASKS=det tools/benchmarks/photographs.sh
    tools/dist_train.sh configs/benchmarks/photographs/det.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../det/mask-rcnn_adpe-vit-mini_mini.py'
model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        global_blocks=(2, 5),
    ),
    neck=dict(in_channels=128),
)
classes = ('mammal', 'bird', 'insect', 'fruit', 'vegetable', 'flower', 'coin', 'tool')
root = '{{$PHOTOGRAPHS:data/photographs}}/coco'
data = dict(dataset=dict(data_root=root))
train_dataloader = dict(data, batch_size=16)  # one process
val_dataloader = test_dataloader = data
val_evaluator = test_evaluator = dict(ann_file=f'{root}/annotations/instances_val2017.json')
train_cfg = dict(max_iters=400, val_interval=401)
_base_.param_scheduler[0].update(end=40 / 400)
default_hooks = dict(checkpoint=dict(interval=400))
del data, root
