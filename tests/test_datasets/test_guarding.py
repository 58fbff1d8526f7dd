"""Broken images and masks of tasks: named with their paths, and skipped in training alone."""

import re

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.structures import BaseDataElement
from PIL import Image

from adpe_mm.datasets import Images, UnreadableImage, guard_files, guarding

OURS, MMCV = 'adpe_mm.LoadImageFromFile', 'mmcv.LoadImageFromFile'
MASKS = dict(type='mmseg.LoadAnnotations')


class Pack:
    def __call__(self, results):
        return dict(inputs=results['img'], data_samples=BaseDataElement(metainfo=dict(of=results)))


def make(folder, loader, *steps, **options):
    """Ten images with masks, and the data set of them."""
    (folder / 'masks').mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = []
    for i in range(10):
        image, mask = folder / f'{i}.png', folder / 'masks' / f'{i}.png'
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 9, (20, 30), dtype=np.uint8)).save(mask)
        samples.append(dict(img_path=str(image), seg_map_path=str(mask), seg_fields=[]))
        samples[-1]['reduce_zero_label'] = False

    class Samples(BaseDataset):
        def load_data_list(self):
            return samples

    return Samples(pipeline=[dict(type=loader), MASKS, *steps, Pack()], **options)


DAMAGE = {
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_bytes(b'this is no image'),
    'cut': lambda path: path.write_bytes(path.read_bytes()[:90]),
    'missing': lambda path: path.unlink(),
}


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('place', ['3.png', 'masks/3.png'])
@pytest.mark.parametrize('loader', [OURS, MMCV])
def test_a_broken_file(tmp_path, loader, place, damage):
    dataset = make(tmp_path, loader)
    DAMAGE[damage](tmp_path / place)
    guard_files(dataset, skips=False)
    assert dataset[2]['inputs'].shape == (20, 30, 3)
    with pytest.raises(UnreadableImage, match=f'cannot read {re.escape(str(tmp_path / place))} '):
        dataset[3]
    np.random.seed(0)
    guard_files(dataset, skips=True)
    sample = dataset[3]['data_samples']
    (named,) = sample.unreadable
    assert named.startswith(f'{tmp_path / place} (') and '3.png' not in sample.of['img_path']
    assert 'unreadable' not in dataset[2]['data_samples']  # said once


def test_another_error_keeps_its_kind_and_the_log_its_path(tmp_path, monkeypatch):
    def fail(results):
        raise TypeError('of a transform')

    said = []
    monkeypatch.setattr(guarding, 'print_log', lambda text, **_: said.append(text))
    dataset = make(tmp_path, OURS, fail)
    guard_files(dataset, skips=True)
    with pytest.raises(TypeError, match='of a transform'):
        dataset[3]
    assert said == [f'a transform failed at {tmp_path}/3.png with {tmp_path}/masks/3.png']


def test_nothing_but_broken_files(tmp_path):
    dataset = make(tmp_path, OURS)
    for i in range(10):
        DAMAGE['empty'](tmp_path / f'{i}.png')
    guard_files(dataset, skips=True)
    with pytest.raises(UnreadableImage, match=r'100 samples in a row .*\.png \(the file is empty'):
        dataset[0]


def test_wrapped_data_sets_are_guarded_and_tests_never_skip(tmp_path):
    parts = [make(tmp_path / 'a', OURS), make(tmp_path / 'b', OURS, test_mode=True)]
    for part in 'ab':
        DAMAGE['empty'](tmp_path / part / '3.png')
    said = {f'{tmp_path}/a/3.png (the file is empty)'}
    both = ConcatDataset(parts)
    guard_files(both, skips=True)
    assert set(both[3]['data_samples'].unreadable) == said
    with pytest.raises(UnreadableImage, match='b/3.png'):
        both[13]
    repeated = RepeatDataset(parts[0], times=2)
    guard_files(repeated, skips=True)
    assert set(repeated[13]['data_samples'].unreadable) == said


def test_images_of_pretraining_replace_by_themselves(tmp_path):
    make(tmp_path, OURS)
    DAMAGE['empty'](tmp_path / '3.png')
    dataset = Images(data_root=str(tmp_path), pipeline=[dict(type='adpe_mm.LoadImage')])
    guard_files(dataset, skips=False)
    assert [dataset[i]['unreadable'] != [] for i in (2, 3)] == [False, True]
