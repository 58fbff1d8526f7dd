"""AdPE on images of six bands, such as those of a satellite: GeoTIFF, or arrays (.npy).

    python tools/analysis_tools/channel_statistics.py data/bands
    tools/dist_train.sh configs/pretrain/adpe_vit-mini_bands_mini.py 2

`in_channels` is the one setting: it changes reader, crops, network and prediction, and in a task's
config the transforms too. Mean and std are what the first command prints of one's own images; those
below are of no data, and only stand where they go. See configs/pretrain/README.md, 'Bands'.

Expected: not run on real bands; on 48 drawn images of six bands it trains.
"""

_base_ = './adpe_vit-mini_mini.py'
model = dict(
    backbone=dict(in_channels=6),
    data_preprocessor=dict(mean=[127.5] * 6, std=[64.0] * 6),
)
train_dataloader = dict(dataset=dict(data_root='data/bands', data_prefix=dict(img_path='')))
