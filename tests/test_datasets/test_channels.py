"""One setting, ``model.backbone.in_channels``, changes readers, transforms and preprocessors."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

from adpe_mm.datasets import fit_channels, read_image
from adpe_mm.datasets.checking import check_data
from adpe_mm.datasets.statistics import channel_statistics, common_bands
from adpe_mm.errors import UserError
from adpe_mm.models import check_statistics
from adpe_mm.registry import MODELS, TRANSFORMS

ROOT = Path(__file__).parents[2]
TASKS = {
    'cls': 'configs/cls/adpe-vit-b_100e_in1k.py',  # RandAugment, random erasing, Pillow
    'seg': 'configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py',  # photometric distortion
    'det': 'configs/det/mask-rcnn_adpe-vit-b_25e_coco.py',  # Pillow
}


@pytest.fixture(autouse=True)
def scope():
    before = DefaultScope.get_current_instance()
    yield
    if before is not None:
        DefaultScope.get_instance(before.instance_name)


def config(path, channels):
    cfg = Config.fromfile(ROOT / path)
    cfg.model.backbone.in_channels = channels
    return cfg


def image(path, bands, size=(600, 700)):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (*[n // 50 for n in size], bands), dtype=np.uint8)
    np.save(path, coarse.repeat(50, 0).repeat(50, 1))
    return str(path)


@pytest.mark.parametrize(
    'path', sorted(ROOT.glob('configs/[!_]*/*.py')), ids=lambda path: path.stem
)
def test_a_config_of_rgb_stays_as_it_is(path):
    cfg = Config.fromfile(path)
    if cfg.model.backbone.get('in_channels', 3) != 3:
        return
    before = copy.deepcopy(cfg.to_dict())
    fit_channels(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
@pytest.mark.parametrize('task', TASKS)
def test_transforms_and_preprocessor_of_a_full_recipe(task, channels, tmp_path):
    """The bands arrive in the order of the file, normalised, at the size of the recipe."""
    cfg = config(TASKS[task], channels)
    mean, std = (
        [float(10 * i + 5) for i in range(channels)],
        [float(i + 2) for i in range(channels)],
    )
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    fit_channels(cfg)
    once = copy.deepcopy(cfg.to_dict())
    fit_channels(cfg)
    assert cfg.to_dict() == once
    init_default_scope(cfg.default_scope)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    check_statistics(preprocessor, channels)
    path = image(tmp_path / 'a.npy', channels)
    Image.new('L', (700, 600)).save(tmp_path / 'mask.png')
    info = dict(
        img_path=path, img_id=0, gt_label=0, seg_map_path=str(tmp_path / 'mask.png'),
        seg_fields=[], reduce_zero_label=True,
        instances=[dict(
            bbox=[50, 50, 500, 500], bbox_label=0, ignore_flag=0,
            mask=[[50, 50, 500, 50, 500, 500, 50, 500]],
        )],
    )  # fmt: skip
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        steps = [TRANSFORMS.build(step) for step in loader.dataset.pipeline]
        sample = Compose(steps)(copy.deepcopy(info))
        assert sample['inputs'].shape[0] == channels and sample['inputs'].dtype == torch.uint8
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        if task == 'cls':
            batch['inputs'] = sample['inputs'][None]
        out = preprocessor(batch, training=False)['inputs']
        given = sample['inputs'].double()
        expected = (given - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        h, w = given.shape[1:]
        assert torch.allclose(out[0, :, :h, :w].double(), expected, atol=1e-4)
    # The bands of validation are those of the file, each of its own mean.
    means = given.mean(dim=(1, 2))
    truth = read_image(path, channels=channels).mean(axis=(0, 1))
    assert np.allclose(means, truth, atol=12)


def test_what_computes_with_colours_is_left_out_and_said():
    cfg = config(TASKS['cls'], 4)
    fit_channels(cfg)
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step.get('step') for step in steps if step.type == 'adpe_mm.LeftOut'] == [
        'RandAugment',
        'RandomErasing',
    ]
    assert steps[0] == dict(type='adpe_mm.LoadImageFromFile', channels=4)
    cfg = config('configs/pretrain/adpe_vit-mini_mini.py', 6)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, dict(dataset)])
    fit_channels(cfg)
    for part in cfg.train_dataloader.dataset.datasets:
        assert part.pipeline[0].channels == 6


def test_contradictions_are_one_sentence():
    cfg = config(TASKS['seg'], 6)
    cfg.train_dataloader.dataset.pipeline[0].channels = 4
    with pytest.raises(UserError, match=r'channels=4, and model.backbone.in_channels is 6'):
        fit_channels(cfg)
    cfg = config(TASKS['seg'], 6)
    cfg.val_dataloader.dataset.pipeline[0].type = 'LoadImageFromFile'
    with pytest.raises(UserError, match='of val_dataloader reads RGB.*take adpe_mm.LoadImage'):
        fit_channels(cfg)
    cfg = config('configs/pretrain/adpe_vit-mini_mini.py', 6)
    fit_channels(cfg)
    text = r'data_preprocessor.mean has 3 values.*in_channels is 6.*channel_statistics.py CONFIG'
    with pytest.raises(UserError, match=text):
        MODELS.build(cfg.model)


@pytest.mark.parametrize('bands', [1, 3, 6])
def test_statistics_are_those_of_all_pixels(tmp_path, bands):
    rng = np.random.default_rng(0)
    pixels = []
    for i in range(5):
        values = rng.integers(20 * i, 255, (30 + i, 40, bands), dtype=np.uint8)
        np.save(tmp_path / f'{i}.npy', values)
        pixels.append(values.reshape(-1, bands))
    (tmp_path / 'broken.npy').write_bytes(b'\x93NUMPY')
    paths = sorted(map(str, tmp_path.iterdir()))
    assert common_bands(paths) == bands
    found = channel_statistics(paths, bands)
    everything = np.concatenate(pixels).astype(float)
    assert np.allclose(found.mean, everything.mean(axis=0), rtol=1e-12)
    assert np.allclose(found.std, everything.std(axis=0), rtol=1e-12)
    assert found.images == 5 and found.unreadable[0].startswith(f'{tmp_path}/broken.npy (')
    np.save(tmp_path / 'other.npy', rng.integers(0, 255, (30, 40, 8), dtype=np.uint8))
    with pytest.raises(UserError, match='different numbers of bands.*other.npy.*--channels'):
        common_bands([*paths, str(tmp_path / 'other.npy')])
    with pytest.raises(UserError, match='none of the images can be read'):
        channel_statistics([paths[-1]], bands)


def test_the_check_before_a_run_reads_bands(tmp_path):
    for i in range(3):
        image(tmp_path / f'{i}.npy', 6)
    cfg = config('configs/pretrain/adpe_vit-mini_mini.py', 6)
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), data_prefix=dict(img_path=''))
    fit_channels(cfg)
    found = check_data(cfg)
    assert found.problems == [] and '3 images, 700 x 600 px' in ' '.join(found.facts)
    image(tmp_path / 'other.npy', 5)
    (problem,) = check_data(cfg).problems
    assert 'other.npy (it has 5 bands, and 6 are wanted' in problem
