"""Detection of the mini benchmark: 250 steps of 16 labelled scenes.

    TASKS=det make mini-benchmark
    tools/dist_train.sh configs/benchmarks/mini/det.py 1

Measured: see docs/mini_benchmark.md.
"""

_base_ = '../../det/mask-rcnn_adpe-vit-mini_mini.py'
root = '{{$MINI_DATA:data/mini_benchmark}}/coco'
data = dict(dataset=dict(data_root=root))
train_dataloader = dict(data, batch_size=16)  # one process
val_dataloader = test_dataloader = data
val_evaluator = test_evaluator = dict(ann_file=f'{root}/annotations/instances_val2017.json')
train_cfg = dict(max_iters=250, val_interval=251)
_base_.param_scheduler[0].update(end=40 / 250)
default_hooks = dict(checkpoint=dict(interval=250))
del data, root
