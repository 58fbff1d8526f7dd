"""Pretraining on several folders: a list of them, and mmengine's wrappers of data sets."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from adpe_mm.datasets import (
    EpochSampler,
    Images,
    SampleKey,
    SeededBatches,
    collate_crops,
    start_worker,
)

PIPELINE = [
    dict(type='adpe_mm.MultiCrop', num_crops=2, size=(8, 12)),
    dict(type='adpe_mm.PackCrops'),
]


def draw(folder, numbers, broken=()):
    folder.mkdir(parents=True)
    for i in numbers:
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:02}.png')
        if i in broken:
            (folder / f'{i:02}.png').write_bytes(b'no image')
    return str(folder)


def images(folder, **options):
    return Images(data_root=folder, pipeline=PIPELINE, **options)


@pytest.fixture
def folders(tmp_path):
    """Nine images in one folder, and the same, in the same order, in two."""
    return draw(tmp_path / 'one', range(9)), [
        draw(tmp_path / 'a', range(5)),
        draw(tmp_path / 'b', range(5, 9)),
    ]


def epochs(dataset, num_workers=0, skip=0, seed=3):
    """Crops, and which are mirrored, of the batches of two epochs."""
    sampler = EpochSampler(dataset, seed=seed)
    batches = SeededBatches(BatchSampler(sampler, 2, drop_last=False), endless=False)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate_crops,
        worker_init_fn=start_worker,
    )
    found = []
    for epoch in range(2):
        batches.begin(epoch, skip if epoch == 1 else 0)
        found += [(batch['inputs'], batch['mirrored'], batch['unreadable']) for batch in loader]
    return found


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and len(a[2]) == len(b[2])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize('num_workers', [0, 2])
def test_two_folders_give_the_crops_of_one(folders, num_workers):
    one, two = folders
    expected = epochs(images(one))
    listed, joined = images(two), ConcatDataset([images(folder) for folder in two])
    assert len(listed) == len(joined) == 9
    for dataset in (listed, joined):
        assert same(epochs(dataset, num_workers), expected)
    assert not same(epochs(joined, seed=4), expected)
    # In the middle of the second epoch, as after a stop.
    assert same(epochs(joined, skip=2)[5:], expected[7:])


def test_a_folder_that_is_repeated_gives_other_crops_each_time(folders):
    dataset = RepeatDataset(images(folders[0]), times=2)
    first, second = (dataset[SampleKey(i, 0, 0)]['inputs'] for i in (4, 13))
    assert not torch.equal(first, second)
    # Both of the fifth image, with what belongs to the fifth and to the fourteenth sample.
    direct = images(folders[0])
    assert torch.equal(first, direct[SampleKey(4, 0, 0)]['inputs'])
    assert torch.equal(second, direct[SampleKey(4, 0, 0, whole=13)]['inputs'])
    config = dict(type='adpe_mm.Images', data_root=folders[0], pipeline=PIPELINE)
    repeated = dict(type='RepeatDataset', times=2, dataset=config)
    nested = ConcatDataset([repeated, dict(config, data_root=folders[1][1])])
    assert torch.equal(nested[SampleKey(13, 0, 0)]['inputs'], second)
    assert torch.equal(
        nested[SampleKey(20, 0, 0)]['inputs'],
        images(folders[1][1])[SampleKey(2, 0, 0, whole=20)]['inputs'],
    )


def test_a_key_keeps_what_it_is():
    key = SampleKey(20, 3, 7) - 8
    for again in (key, pickle.loads(pickle.dumps(key)), key % 100):
        assert (again, again.index, again.epoch, again.seed, again.whole) == (12, 12, 3, 7, 20)
        assert again.rng().random() == SampleKey(20, 3, 7).rng().random()


def test_broken_images_are_replaced_as_in_one_folder(tmp_path):
    one = images(draw(tmp_path / 'one', range(9), broken=(2, 6)))
    two = [draw(tmp_path / 'a', range(5), (2,)), draw(tmp_path / 'b', range(5, 9), (6,))]
    expected = epochs(one)
    assert sum(len(batch[2]) for batch in expected) >= 4  # each epoch two, or a few more
    assert same(epochs(images(two)), expected)
    # Of ConcatDataset, each folder replaces by its own.
    sample = ConcatDataset([images(folder) for folder in two])[SampleKey(6, 0, 0)]
    assert all(path.startswith(f'{tmp_path}/b/06.png') for path in sample['unreadable'])


def test_lists_and_parts_of_several_folders(tmp_path):
    for name in 'ab':
        draw(tmp_path / name / 'train', range(3))
        (tmp_path / name / 'list.txt').write_text('01.png 4\n00.png 2\n')
    roots = [str(tmp_path / name) for name in 'ab']
    part = dict(data_prefix=dict(img_path='train'))
    assert len(images(roots, **part)) == 6
    dataset = images(roots, ann_file='list.txt', **part)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(4)]
    assert paths == [f'{root}/train/{name}' for root in roots for name in ('01.png', '00.png')]


def test_mistakes_are_one_sentence(tmp_path):
    a = draw(tmp_path / 'a', range(2))
    (tmp_path / 'empty').mkdir()
    for twice in ([a, a], [str(tmp_path), a]):
        with pytest.raises(ValueError, match=f"'{a}' is named twice, or lies in another folder"):
            images(twice)
    with pytest.raises(FileNotFoundError, match="there is no folder '.*nowhere'"):
        images([a, str(tmp_path / 'nowhere')])
    with pytest.raises(FileNotFoundError, match=r"there is no image \(.*\) in '.*empty'"):
        images([a, str(tmp_path / 'empty')])
