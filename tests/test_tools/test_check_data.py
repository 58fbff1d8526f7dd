"""The check as a command, and before training and test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CLS = 'configs/cls/adpe-vit-mini_mini.py'
SEG = 'configs/seg/upernet_adpe-vit-mini_mini.py'
TINY = [
    'model.backbone.arch.embed_dims=24', 'model.backbone.arch.num_heads=3',
    'model.backbone.arch.feedforward_channels=48', 'model.backbone.init_cfg=None',
    'visualizer.vis_backends=[]',
]  # fmt: skip


def run(*command, status=0):
    job = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert job.returncode == status, job.stdout + job.stderr
    assert status == 0 or 'Traceback' not in job.stderr or 'torch.distributed.run' in command
    return job


def roots(root):
    return [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]


@pytest.fixture
def folders(tmp_path):
    """Two classes, which are told apart by their colour."""
    for split in ('train', 'val'):
        for label, name in enumerate(('ant', 'bee')):
            folder = tmp_path / 'photos of mine' / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 60, (16, 16, 3), np.uint8)
                pixels[..., label] += 150
                Image.fromarray(pixels).save(folder / f'{split}{number}.png')
    return tmp_path / 'photos of mine'


@pytest.fixture
def masks(tmp_path):
    """Dark squares, of which masks have 255, and 0 around."""
    for split, count in dict(training=4, validation=2).items():
        for kind in ('images', 'annotations'):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(count):
            square = np.zeros((64, 64), bool)
            square[8 * number : 8 * number + 32, 16:48] = True
            image = np.where(square[..., None], np.uint8([9, 9, 90]), np.uint8([200, 200, 20]))
            Image.fromarray(image).save(tmp_path / 'images' / split / f'{number}.jpg')
            mask = Image.fromarray(np.uint8(square * 255))
            mask.save(tmp_path / 'annotations' / split / f'{number}.png')
    return tmp_path


@pytest.mark.slow
def test_command(folders):
    right = ['model.head.num_classes=2', 'model.data_preprocessor.num_classes=2']
    job = run('tools/check_data.py', CLS, '--all', '--cfg-options', *roots(folders), *right)
    assert '8 images of 2 classes (ant 4, bee 4), 16 x 16 px' in job.stdout
    assert job.stdout.strip().endswith('no problem was found')
    job = run('tools/check_data.py', CLS, '--cfg-options', *roots(folders), status=1)
    (problem,) = re.findall('^problem: .*', job.stdout, re.M)
    options = re.search('--cfg-options (.*)', problem)[1].split()
    assert options == right  # to be pasted


@pytest.mark.slow
def test_two_classes_from_the_check_to_the_test(folders, tmp_path):
    """Problems end a training before it begins; without them two classes are trained and tested."""
    (folders / 'val' / 'bee').rename(folders / 'val' / 'wasp')
    settings = ['--work-dir', tmp_path / 'run', '--cfg-options', *roots(folders), *TINY]
    settings += ['classes=ant,bee', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    settings += [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
    settings += ['train_dataloader.batch_size=8', 'model.head.in_channels=24']
    job = run('tools/train.py', CLS, *settings, status=1)
    said = job.stderr[job.stderr.index('train: ') :]
    assert 'train: the class folders of val_dataloader.dataset are not those' in said
    assert "lacks 'bee'" in said and "has 'wasp'" in said and '--no-check' in said
    assert not list((tmp_path / 'run').glob('*.pth'))
    (folders / 'val' / 'wasp').rename(folders / 'val' / 'bee')
    job = run('tools/train.py', CLS, *settings)
    assert 'top-5 accuracy needs as many classes, and there are 2' in job.stdout + job.stderr
    (folders / 'val' / 'bee' / 'val0.png').write_bytes(b'')
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    job = run('tools/test.py', CLS, checkpoint, *settings, status=1)
    assert 'test: 1 of 8 images of test_dataloader.dataset cannot be read' in job.stderr
    (folders / 'val' / 'bee').rename(folders / 'val' / 'wasp')  # as before, in the same place
    (folders / 'val' / 'wasp' / 'val0.png').unlink()
    job = run('tools/test.py', CLS, checkpoint, '--no-check', *settings)
    assert 'accuracy/top1' in job.stdout + job.stderr and 'accuracy/top5' not in job.stdout


@pytest.mark.slow
def test_binary_masks_and_one_image_in_a_batch(masks, tmp_path):
    """What the sentences say to set trains: a loss above 0, and an mIoU that is a number."""
    settings = ['--work-dir', tmp_path / 'run', '--cfg-options', *roots(masks), *TINY]
    settings += ['train_cfg.max_iters=6', 'train_cfg.val_interval=6', 'model.neck.embed_dim=24']
    settings += [
        'model.decode_head.in_channels=[24,24,24,24]',
        'model.auxiliary_head.in_channels=24',
    ]
    settings += ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=6']
    settings += [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
    settings += ['train_dataloader.batch_size=1', 'classes=background,square']
    job = run('tools/train.py', SEG, *settings, status=1)
    assert 'have the values 0 and 255' in job.stderr and 'batch_size=1, but UPerHead' in job.stderr
    settings += re.search(r'or (model.decode_head.norm_cfg\S+ \S+)', job.stderr)[1].split()
    job = run('tools/train.py', SEG, *settings, 'mask_values=0,255')
    losses = [float(value) for value in re.findall(r' loss: ([\d.]+)', job.stdout + job.stderr)]
    assert len(losses) == 6 and min(losses) > 0.01
    (iou,) = re.findall(r'mIoU: ([\d.]+)', job.stdout + job.stderr)
    assert 0 < float(iou) < 100


@pytest.mark.slow
def test_all_processes_hear_of_a_problem(folders, tmp_path):
    settings = ['--work-dir', tmp_path / 'run', '--cfg-options', *roots(folders), *TINY]
    job = run(
        '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', 'tools/train.py',
        CLS, '--launcher', 'pytorch', *settings, status=1,
    )  # fmt: skip
    said = re.findall('train: train_dataloader.dataset has 2 classes', job.stderr)
    assert len(said) == 2
