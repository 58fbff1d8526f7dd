"""Tiny networks that several tests build."""

from adpe_mm.models import MAEPlus

# position, mode of each of the six variants of the paper.
VARIANTS = [
    ('ape', None),
    ('ape', 'embedding'),
    ('ape', 'coordinate'),
    ('rpe', None),
    ('rpe', 'embedding'),
    ('rpe', 'coordinate'),
]


def tiny_config(position='rpe', mode='coordinate', img_size=(16, 24), **adversary) -> dict:
    """Config of a pretraining network of 4 x 6 patches that runs in milliseconds."""
    config = dict(
        type='adpe_mm.MAEPlus',
        backbone=dict(
            type='adpe_mm.AdPEPretrainViT',
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
            img_size=img_size,
            patch_size=4,
            position=position,
            rpe_lookup='interpolate' if mode == 'coordinate' else 'bucket',
        ),
        neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=16, num_layers=1, num_heads=2),
    )
    if mode is not None:
        config['adversary'] = dict(type='adpe_mm.AdversarialPosition', mode=mode, **adversary)
    return config


def tiny_model(*args, **kwargs) -> MAEPlus:
    """The initialised network of `tiny_config`."""
    config = tiny_config(*args, **kwargs)
    config.pop('type')
    model = MAEPlus(**config)
    model.init_weights()
    return model
