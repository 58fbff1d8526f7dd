import multiprocessing
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from adpe_mm.datasets import (
    EpochSampler,
    Images,
    SampleKey,
    collate_crops,
    find_images,
    start_worker,
)

PIPELINE = [
    dict(type='adpe_mm.MultiCrop', num_crops=2, size=(8, 12)),
    dict(type='adpe_mm.PackCrops'),
]


def draw(path, size=(40, 30), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(['n01/a.JPEG', 'n01/b c.png', 'n02/deep/er/c.webp', 'flat.jpg']):
        draw(tmp_path / 'train' / name, seed=i)
    (tmp_path / 'train' / 'notes.txt').write_text('no image')
    draw(tmp_path / 'train' / '.hidden.png')
    return tmp_path


def names(dataset):
    return [
        re.sub('.*/train/', '', dataset.get_data_info(i)['img_path']) for i in range(len(dataset))
    ]


def test_finds_class_folders_nested_and_flat_images_in_order(folder):
    dataset = Images(data_root=str(folder), data_prefix=dict(img_path='train'))
    assert names(dataset) == ['flat.jpg', 'n01/a.JPEG', 'n01/b c.png', 'n02/deep/er/c.webp']
    assert len(Images(data_root=str(folder / 'train' / 'n01'))) == 2


def test_list_file_with_and_without_labels(folder):
    (folder / 'list.txt').write_text('n01/a.JPEG 7\nn01/b c.png\n\nflat.jpg\t3\nn01/b c.png 12\n')
    dataset = Images(data_root=str(folder), ann_file='list.txt', data_prefix=dict(img_path='train'))
    assert names(dataset) == ['n01/a.JPEG', 'n01/b c.png', 'flat.jpg', 'n01/b c.png']


def test_follows_links(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    (other / 'train').symlink_to(folder / 'train')
    assert len(Images(data_root=str(other))) == 4


def test_missing_and_empty_folders_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder .*data_root'):
        Images(data_root=str(tmp_path / 'none'))
    with pytest.raises(FileNotFoundError, match='no image .*data_root'):
        Images(data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match='no list .*ann_file'):
        Images(data_root=str(tmp_path), ann_file='none.txt')


def test_a_sample_depends_on_its_key_only(folder):
    dataset = Images(data_root=str(folder), pipeline=PIPELINE)
    first = dataset[SampleKey(1, 0, 0)]['inputs']
    assert first.shape == (2, 3, 8, 12) and first.dtype == torch.uint8
    np.random.seed(5)
    assert torch.equal(dataset[SampleKey(1, 0, 0)]['inputs'], first)
    for other in (SampleKey(1, 1, 0), SampleKey(1, 0, 1)):
        assert not torch.equal(dataset[other]['inputs'], first)
    assert not torch.equal(dataset[1]['inputs'], dataset[1]['inputs'])  # a plain index draws anew


def batches(dataset, num_workers, epochs=2):
    sampler = EpochSampler(dataset, seed=4)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_crops,
        worker_init_fn=start_worker,
        persistent_workers=num_workers > 0,
    )
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield from loader


def test_workers_change_nothing(folder):
    (folder / 'train' / 'broken.jpg').write_bytes(b'\xff\xd8\xff broken')
    dataset = Images(data_root=str(folder), pipeline=PIPELINE)
    for alone, shared in zip(batches(dataset, 0), batches(dataset, 2), strict=True):
        assert torch.equal(alone['inputs'], shared['inputs'])
        assert alone['unreadable'] == shared['unreadable']


def broken_images(folder):
    good = draw(folder / 'good.png', size=(200, 200)).read_bytes()
    for name, content in {
        'empty.jpg': b'',
        'text.png': b'this is no image',
        'cut.png': good[: len(good) // 2],
        'cut.jpg': draw(folder / 'whole.jpg', size=(200, 200)).read_bytes()[:2000],
    }.items():
        (folder / name).write_bytes(content)
    (folder / 'folder.jpg').mkdir()
    (folder / 'link.jpg').symlink_to(folder / 'nowhere')
    return {'empty.jpg', 'text.png', 'cut.png', 'cut.jpg', 'link.jpg'}


def test_unreadable_images_are_replaced_and_named(tmp_path):
    bad = broken_images(tmp_path)
    dataset = Images(data_root=str(tmp_path), pipeline=PIPELINE)
    found = set()
    for index in range(len(dataset)):
        sample = dataset[SampleKey(index, 0, 0)]
        assert sample['inputs'].shape == (2, 3, 8, 12)
        path = dataset.get_data_info(index)['img_path']
        assert any(entry.startswith(path) for entry in sample['unreadable']) == (
            path.rpartition('/')[2] in bad
        )
        found |= {re.sub(r' \(.*', '', e).rpartition('/')[2] for e in sample['unreadable']}
    assert found == bad


def test_nothing_but_unreadable_images_ends_in_an_error(tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'nothing')
    dataset = Images(data_root=str(tmp_path), pipeline=PIPELINE)
    with pytest.raises(ValueError, match='cannot be read, the last being .*bad.jpg'):
        dataset[SampleKey(0, 0, 0)]


def test_paths_are_in_one_buffer(folder):
    """So the workers' memory does not grow: no Python object per image is touched."""
    dataset = Images(data_root=str(folder))
    assert dataset.data_list == [] and dataset.data_bytes.dtype == np.uint8


def private_memory():
    """Bytes of this process that it shares with no other: its unique set size."""
    lines = Path('/proc/self/smaps_rollup').read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Private_'))


def visit_all(dataset, pipe):
    start_worker(0)
    for index in range(1000):
        dataset.get_data_info(index)
    before = private_memory()
    for index in range(0, len(dataset), 2):
        dataset.get_data_info(index)
    pipe.send(private_memory() - before)


@pytest.mark.slow
def test_memory_of_a_worker_does_not_grow_over_a_million_paths(tmp_path):
    """Were the paths Python objects, counting references would copy all their pages."""
    lines = (f'n{i // 1300:08}/n{i // 1300:08}_{i}.JPEG' for i in range(1_000_000))
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    dataset = Images(data_root=str(tmp_path), ann_file='list.txt')
    ours, theirs = multiprocessing.get_context('fork').Pipe()
    worker = multiprocessing.get_context('fork').Process(target=visit_all, args=(dataset, theirs))
    worker.start()
    assert ours.poll(120)
    assert ours.recv() < 8e6  # bytes; a list of dicts grew by 160 MB
    worker.join()


def thread_counts(worker_id, pipe):
    start_worker(worker_id)
    pipe.send((cv2.getNumThreads(), torch.get_num_threads()))


def test_a_worker_has_one_thread():
    ours, theirs = multiprocessing.get_context('fork').Pipe()
    worker = multiprocessing.get_context('fork').Process(target=thread_counts, args=(0, theirs))
    worker.start()
    assert ours.poll(30) and ours.recv() == (1, 1)
    worker.join()


def test_images_are_found_by_file_and_by_folder(folder):
    (folder / 'empty').mkdir()
    everything = find_images([folder])
    assert everything == sorted(everything) and len(everything) > 3
    assert find_images([everything[2], folder]) == [everything[2], *everything]
    for name in ('nowhere', 'empty'):
        with pytest.raises(FileNotFoundError, match=f"no image or folder of images '.*{name}'"):
            find_images([everything[0], folder / name])
