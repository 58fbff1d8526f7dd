"""Features, exports, plans and images of networks that take other bands than RGB."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from adpe_mm import extract_features, get_model
from adpe_mm.checkpoints import describe, format_description
from adpe_mm.datasets import fit_channels
from adpe_mm.evaluation.drawing import to_pixels
from adpe_mm.evaluation.reconstruction import open_images
from adpe_mm.evaluation.workload import example
from adpe_mm.exporting import export_model
from adpe_mm.models import MultiCropPreprocessor
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config

BICUBIC = Image.Resampling.BICUBIC
MEAN, STD = [float(30 * i + 20) for i in range(5)], [float(i + 30) for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of pretraining on five bands, and three images of just the network's size."""
    config = tiny_config('ape', None)
    config['backbone']['in_channels'] = 5
    config['data_preprocessor'] = dict(mean=MEAN, std=STD)
    model = MODELS.build(config)
    model.init_weights()
    meta = dict(cfg=Config(dict(model=config)).pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'five.pth')
    (tmp_path / 'images').mkdir()
    for i in range(3):
        values = np.random.default_rng(i).integers(0, 255, (5, 64, 96), dtype=np.uint8)
        np.save(tmp_path / 'images' / f'{i}.npy', values)
    return tmp_path


def test_features_of_files_and_arrays_are_those_of_the_normalised_bands(folder):
    model = get_model(folder / 'five.pth', out_type='avg_featmap')
    assert model.in_channels == 5
    size = dict(size=(56, 84))  # the short edge becomes 84 * 256 / 224 = 96 px
    from_files, paths = extract_features(model, folder / 'images', **size)
    assert [path.rpartition('/')[2] for path in paths] == ['0.npy', '1.npy', '2.npy']
    arrays = np.stack([np.load(path).transpose(1, 2, 0) for path in paths])
    assert np.array_equal(extract_features(model, arrays, **size)[0], from_files)
    # By Pillow, band by band, and by hand.
    inputs = torch.empty(3, 5, 56, 84)
    for image, array in zip(inputs, arrays, strict=True):
        for band, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
            large = Image.fromarray(array[..., band].copy()).resize((144, 96), BICUBIC)
            crop = np.asarray(large)[20:76, 30:114].astype(np.float32)
            image[band] = torch.from_numpy((crop - mean) / std)
    assert np.allclose(extract_features(model, inputs)[0], from_files, atol=1e-5)
    with pytest.raises(ValueError, match=r'must be \(N, H, W, 5\) uint8'):
        extract_features(model, arrays[..., :3])
    model.data_preprocessor = MultiCropPreprocessor()
    with pytest.raises(ValueError, match='mean has 3 values.*in_channels is 5'):
        extract_features(model, folder / 'images')


def test_a_checkpoint_and_its_export_say_the_bands(folder):
    described = describe(folder / 'five.pth')
    assert described['in_channels'] == 5
    assert [line for line in format_description(described).splitlines() if 'bands' in line] == [
        'bands        5'
    ]
    done = export_model(folder / 'five.pth', folder / 'five.pt2')
    assert done.shape == (5, 16, 24) and done.difference <= 1e-5


def config_of_five():
    cfg = Config.fromfile('configs/pretrain/adpe_vit-mini_bands_mini.py')
    cfg.model.backbone.in_channels = 5
    fit_channels(cfg)
    return cfg


def test_images_are_opened_and_planned_with_their_bands(folder):
    cfg = config_of_five()
    paths = sorted(map(str, (folder / 'images').iterdir()))
    images = open_images(cfg, paths, (64, 96))
    assert images.shape == (3, 1, 5, 64, 96)
    assert np.array_equal(images[1, 0], np.load(paths[1]))
    assert example(cfg, 2).shape == (2 * 4, 5, 48, 48)


def test_test_time_augmentation_wraps_the_network():
    cfg = Config.fromfile('configs/seg/upernet_adpe-vit-mini_mini.py')
    cfg.model.backbone.in_channels = 5
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    fit_channels(cfg)
    fit_channels(cfg)
    assert cfg.tta_pipeline[0].channels == 5
    assert cfg.model.module.data_preprocessor.base == 'SegDataPreProcessor'


@pytest.mark.parametrize(
    'channels, bands, shown',
    [(1, None, [0, 0, 0]), (2, None, [0, 0, 0]), (3, None, [0, 1, 2]), (5, None, [0, 1, 2]),
     (5, (4, 2, 0), [4, 2, 0])],
)  # fmt: skip
def test_three_bands_are_shown(channels, bands, shown):
    pixels = torch.randint(0, 256, (2, channels, 4, 6)).float()
    mean, std = (torch.rand(channels, 1, 1) * 50 + 1 for _ in range(2))
    found = to_pixels((pixels - mean) / std, mean, std, bands)
    assert np.array_equal(found, pixels[:, shown].permute(0, 2, 3, 1).byte())


def test_bands_that_are_not_there_are_one_sentence():
    images, ones = torch.zeros(1, 5, 4, 4), torch.ones(5, 1, 1)
    with pytest.raises(ValueError, match=r'three bands of 0 to 4 can be shown, got \[1, 2, 5\]'):
        to_pixels(images, ones, ones, (1, 2, 5))
