"""As `imagenet_finetune.py`, at 448 px.

Tested on the central square of the whole image, without a margin, as MAE does above 224 px (its
`util/datasets.py`).
"""

_base_ = './imagenet_finetune.py'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(step, scale=448) if step['type'] == 'RandomResizedCrop' else step
            for step in _base_.train_dataloader.dataset.pipeline
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='adpe_mm.LoadImageFromFile'),
            dict(
                type='ResizeEdge',
                scale=448,
                edge='short',
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='CenterCrop', crop_size=448),
            dict(type='PackInputs'),
        ]
    )
)
test_dataloader = val_dataloader
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        _base_.tta_pipeline[1],
        transforms=[
            [val_dataloader['dataset']['pipeline'][1]],
            [val_dataloader['dataset']['pipeline'][2]],
            *_base_.tta_pipeline[1].transforms[2:],
        ],
    ),
]
