"""As `imagenet_finetune_384px.py`, at 448 px."""

_base_ = './imagenet_finetune_384px.py'
_base_.train_dataloader.dataset.pipeline[1].update(scale=448)
for loader in (_base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.pipeline[1].update(scale=448)
    loader.dataset.pipeline[2].update(crop_size=448)
_base_.tta_pipeline[1].transforms[0][0].update(scale=448)
_base_.tta_pipeline[1].transforms[1][0].update(crop_size=448)
del loader
