"""Classification, segmentation and detection: killed and resumed they end in the same bits.

With all that is random in the recipes of the three libraries, other numbers of workers, averaged
weights, statistics of each process, gradients that accumulate over the end of an epoch.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mmpretrain  # noqa: F401  the forked processes have it then
import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmseg.visualization import SegLocalVisualizer

from adpe_mm.launch import init_processes, one_sentence_errors
from tests.test_engine.toy import assert_same
from tests.test_transfer import CONFIGS, ROOT, options

LOAD = dict(type='adpe_mm.LoadImageFromFile')
FLIP = dict(type='RandomFlip', prob=0.5)


def cls(batch_size) -> dict:
    """By epoch, 5 iterations each; mixed images, random augmentation, repeated samples."""
    return {
        'model.train_cfg.augments': [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)],
        'train_dataloader.sampler': dict(_delete_=True, type='RepeatAugSampler'),
        'train_dataloader.drop_last': False,
        'train_dataloader.dataset.pipeline': [
            LOAD,
            dict(type='RandomResizedCrop', scale=32),
            dict(type='RandAugment', policies='timm_increasing', num_policies=2, magnitude_level=9),
            dict(type='RandomErasing', erase_prob=0.5),
            dict(type='PackInputs'),
        ],
        'train_cfg': dict(_delete_=True, by_epoch=True, max_epochs=4, val_interval=1),
        'optim_wrapper.accumulative_counts': 2,
        'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=3)],
        'default_hooks.checkpoint': dict(interval=1, save_best='auto', max_keep_ckpts=2),
        'default_hooks.ema': dict(type='adpe_mm.EMAHook', momentum=0.1),
    }


def seg(batch_size) -> dict:
    """By iteration; BatchNorm of each process, dropout, four images in one."""
    pack = dict(type='PackSegInputs')
    return {
        'train_dataloader.dataset': dict(
            type='MultiImageMixDataset',
            dataset=dict(pipeline=[LOAD, dict(type='LoadAnnotations')]),
            pipeline=[
                dict(type='RandomMosaic', prob=0.5, img_scale=(48, 48)),
                dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2), keep_ratio=True),
                dict(type='RandomCrop', crop_size=(32, 32), cat_max_ratio=0.75),
                FLIP,
                dict(type='PhotoMetricDistortion'),
                pack,
            ],
        ),
        'model.data_preprocessor.size': (32, 32),
        'train_cfg': dict(type='IterBasedTrainLoop', max_iters=14, val_interval=4),
        'default_hooks.checkpoint': dict(interval=3, by_epoch=False, save_best='mIoU'),
        'default_hooks.ema': dict(type='EMAHook', momentum=0.1, update_buffers=True),
    }


def det(batch_size) -> dict:
    """By epoch; mosaics, mixed images, batches of like shapes, a random size for each two."""
    return {
        'train_dataloader.sampler': dict(_delete_=True, type='DefaultSampler', shuffle=True),
        'train_dataloader.batch_sampler': dict(type='AspectRatioBatchSampler', drop_last=True),
        'train_dataloader.dataset': dict(
            type='MultiImageMixDataset',
            dataset=dict(
                pipeline=[
                    LOAD,
                    dict(type='adpe_mm.LoadInstances', with_bbox=True, with_mask=False),
                ]
            ),
            pipeline=[
                dict(type='Mosaic', img_scale=(48, 48), pad_val=114.0),
                dict(type='RandomAffine', border=(-24, -24)),
                dict(type='MixUp', img_scale=(48, 48), pad_val=114.0),
                dict(type='YOLOXHSVRandomAug'),
                FLIP,
                dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
                dict(type='PackDetInputs'),
            ],
        ),
        'model.type': 'FasterRCNN',
        'model.roi_head.mask_roi_extractor': None,
        'model.roi_head.mask_head': None,
        'model.data_preprocessor.pad_mask': False,
        'model.data_preprocessor.batch_augments': [
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(32, 96),
                size_divisor=32,
                interval=2,
            )
        ],
        'val_evaluator.metric': 'bbox',
        'train_cfg': dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=4, val_interval=2),
        'param_scheduler': [dict(type='MultiStepLR', milestones=[2], gamma=0.1)],
        'default_hooks.checkpoint': dict(interval=2, by_epoch=False, save_best='coco/bbox_mAP'),
    }


TASKS = dict(cls=cls, seg=seg, det=det)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('mini') / 'mini'
    command = [sys.executable, ROOT / 'tools/dataset_converters/make_mini.py', out]
    more = ['--train', '18', '--val', '9', '--size', '64', '--others', '0']
    subprocess.run([*command, *more], check=True, capture_output=True)
    return out


class Killed(Hook):
    """Ends the process as if for want of memory, in an iteration."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def config(task, data, number) -> Config:
    cfg = Config.fromfile(ROOT / CONFIGS[task])
    cfg.merge_from_dict(options(task, data, 'rpe'))
    dataset = cfg.train_dataloader.dataset
    more = TASKS[task](4 // number)
    outer = more.get('train_dataloader.dataset')
    if outer is not None:
        outer['dataset'] = dict(dataset, **outer['dataset'])
        cfg.train_dataloader.dataset = more.pop('train_dataloader.dataset')
    cfg.merge_from_dict(more)
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 4 // number,
            'model.backbone.drop_path_rate': 0.3,
            'default_hooks.logger.interval': 1,
            'default_hooks.visualization': None,
            'env_cfg.dist_cfg.backend': 'gloo',
            'log_level': 'ERROR',
            'resume': True,
        }
    )
    return cfg


def process(rank, number, port, cfg, kill_at):
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(number), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    for kind in (DetLocalVisualizer, SegLocalVisualizer):  # of other tests of the parent, by name
        kind._instance_dict.clear()
    cfg.launcher = 'pytorch' if number > 1 else 'none'
    with one_sentence_errors('train'):
        init_processes(cfg.launcher)
        runner = RUNNERS.build(cfg)
        runner.register_hook(Killed(kill_at))
        runner.train()


def train(task, data, work_dir, number, kill_at=None, workers=0):
    cfg = config(task, data, number)
    cfg.work_dir, cfg.experiment_name = str(work_dir), work_dir.name
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.persistent_workers = bool(workers)
    context = multiprocessing.get_context('fork')
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    jobs = [
        context.Process(target=process, args=(rank, number, port, cfg, kill_at))
        for rank in range(number)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(300)
    return {job.exitcode for job in jobs}


def outcome(work_dir) -> dict:
    """All that a run leaves behind and the next iteration would depend on."""
    path = Path((work_dir / 'last_checkpoint').read_text())
    checkpoint = torch.load(path, weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    kept = ('state_dict', 'optimizer', 'ema_state_dict', 'param_schedulers')
    best = {file.name: torch.load(file, weights_only=False) for file in work_dir.glob('best_*.pth')}
    lines = ''.join(path.read_text() for path in sorted(work_dir.glob('*/vis_data/scalars.json')))
    records = [json.loads(line) for line in lines.splitlines()]
    return dict(
        files=sorted(file.name for file in work_dir.glob('*.pth')),
        checkpoint={key: checkpoint[key] for key in kept if key in checkpoint},
        epoch=checkpoint['meta']['epoch'],
        iter=checkpoint['meta']['iter'],
        info={key: info.get(key) for key in ('best_score', 'random_sizes')},
        statistics=info.get('statistics_of_processes'),
        best={name: saved['state_dict'] for name, saved in best.items()},
        losses={r['step']: r['loss'] for r in records if 'loss' in r},
        metrics={
            r['step']: {k: v for k, v in r.items() if 'time' not in k}
            for r in records
            if 'loss' not in r
        },
    )


@pytest.mark.parametrize('number', [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize('task', TASKS)
def test_killed_and_resumed_ends_in_the_same_bits(task, number, data, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert train(task, data, whole, number, workers=2) == {0}
    expected = outcome(whole)
    kill_at = expected['iter'] - 3 if number == 1 else expected['iter'] // 2 - 1
    assert -signal.SIGKILL in train(task, data, broken, number, kill_at)
    assert train(task, data, broken, number) == {0}
    assert_same(outcome(broken), expected)
    assert expected['metrics'] and len(expected['best']) == 1
    assert len(set(expected['losses'].values())) == len(expected['losses'])
    if task == 'seg' and number == 2:
        assert expected['statistics']  # of process 1, other ones than in the weights
    if task == 'det':
        assert len(expected['info']['random_sizes'][0]) == 2
