"""Runs of a second: a network with all kinds of randomness, on a few small images."""

from itertools import count

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image
from torch import nn

from adpe_mm.engine import AdPERunner
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config

NUMBER = count()  # mmengine keeps the state of runs by their names
CROP = (16, 24)  # of `tiny_config`
ADPE = tiny_config(norm='linf', eps=1e-3)


@MODELS.register_module()
class Noisy(BaseModel):
    """Draws from every generator that a step may use."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.layers = nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.layers(torch.zeros(1, 3 * CROP[0] * CROP[1]))

    def forward(self, inputs, data_samples=None, mode='loss'):
        if mode == 'predict':
            return self.layers(inputs.flatten(1)).mean(1).tolist()
        noise = torch.rand(len(inputs), 1) * np.random.rand()
        return dict(loss=(self.layers(inputs.flatten(1)) - noise).square().mean())


NOISY = dict(type='adpe_mm.Noisy')


class Record(Hook):
    """Keeps the losses, and calls functions after iterations that are counted from 1."""

    priority = 'LOWEST'

    def __init__(self, at: dict):
        self.at = at
        self.losses = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter + 1] = outputs['loss'].item()
        self.at.get(runner.iter + 1, lambda: None)()


class Stopped(Exception):
    pass


def stop():
    raise Stopped


def draw(folder, number=20, broken=()):
    """Write images, all different; those of the numbers `broken` are none."""
    folder.mkdir(parents=True)
    for i in range(number):
        path = folder / f'{i:02}.png'
        pixels = np.random.default_rng(i).integers(0, 255, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if i in broken:
            path.write_bytes(b'no image')
    return folder


def make_runner(work_dir, data, at=None, model=NOISY, options=None, validates=False) -> Runner:
    """A run of 2 epochs of 5 iterations, as the configs set it up."""
    cfg = Config(
        dict(
            model=dict(model, data_preprocessor=dict(type='adpe_mm.MultiCropPreprocessor')),
            work_dir=str(work_dir),
            experiment_name=f'toy{next(NUMBER)}',
            default_scope='mmpretrain',
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                drop_last=True,
                sampler=dict(type='adpe_mm.EpochSampler'),
                worker_init_fn=dict(type='adpe_mm.datasets.start_worker'),
                collate_fn=dict(type='adpe_mm.datasets.collate_crops'),
                dataset=dict(
                    type='adpe_mm.Images',
                    data_root=str(data),
                    pipeline=[
                        dict(type='adpe_mm.MultiCrop', num_crops=2, size=CROP),
                        dict(type='adpe_mm.PackCrops'),
                    ],
                ),
            ),
            train_cfg=dict(type='adpe_mm.ExactEpochTrainLoop', max_epochs=2),
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='adpe_mm.LayerDecayOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=1e-2),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
                dict(type='CosineAnnealingLR', begin=1, T_max=1, convert_to_iter_based=True),
            ],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='adpe_mm.SafeCheckpointHook', interval=1, by_epoch=False),
            ),
            custom_hooks=[
                dict(type='adpe_mm.IterationSeedHook'),
                dict(type='adpe_mm.AdversaryProjectionHook'),
            ],
            randomness=dict(seed=7),
            log_level='WARNING',
        )
    )
    if validates:
        cfg.val_dataloader = dict(
            cfg.train_dataloader,
            batch_size=1,
            drop_last=False,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    cfg.merge_from_dict(options or {})
    runner = AdPERunner.from_cfg(cfg)
    runner.record = Record(at or {})
    runner.register_hook(runner.record)
    return runner


def final_state(runner) -> dict:
    """All that the next iteration would depend on."""
    return dict(
        weights=runner.model.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers],
        position=(runner.epoch, runner.iter),
    )


def assert_same(a, b, where='state') -> None:
    """Bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f'{where}[{i}]')
    else:
        assert a == b, where
