"""What the loop says when the data no longer are those of the interrupted run."""

import pytest
import torch

from adpe_mm.engine.loops import FORMER_NAMES
from tests.test_engine.toy import Stopped, draw, make_runner, stop


@pytest.fixture
def images(tmp_path):
    return draw(tmp_path / 'images', 22)


def interrupted(work_dir, images, **options):
    with pytest.raises(Stopped):
        make_runner(work_dir, images, {3: stop}, options=options).train()


def test_too_few_images_for_a_batch(tmp_path, images):
    runner = make_runner(tmp_path, images, options={'train_dataloader.batch_size': 23})
    with pytest.raises(ValueError, match='the 22 images do not fill one batch: lower'):
        runner.train()


def test_another_number_of_iterations_is_refused(tmp_path, images):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    options = {'resume': True, 'train_dataloader.batch_size': 5}
    with pytest.raises(ValueError, match='had 5 iterations per epoch and now has 4: resume with'):
        make_runner(work_dir, images, options=options).train()


def test_other_changes_are_said_in_one_line(tmp_path, images, caplog):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    (images / '21.png').unlink()
    runner = make_runner(work_dir, images, options=dict(resume=True))
    runner.train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly as if never stopped: 21 images (were 22)' in log
    assert list(runner.record.losses) == list(range(4, 11))


def test_nothing_is_said_when_nothing_changed(tmp_path, images):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    make_runner(work_dir, images, options=dict(resume=True)).train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly' not in log


def test_a_checkpoint_of_before_the_names_changed_resumes(tmp_path, images):
    """And exactly: nothing is said."""
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    path = work_dir / 'iter_3.pth'
    checkpoint = torch.load(path, weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    former = {new: old for old, new in FORMER_NAMES.items()}
    info['data_order'] = {former.get(k, k): value for k, value in info['data_order'].items()}
    assert {'pictures', 'iterations an epoch', 'sampler seed'} < set(info['data_order'])
    torch.save(checkpoint, path)
    make_runner(work_dir, images, options=dict(resume=True)).train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly' not in log


def test_every_image_is_visited_once_an_epoch_over_a_stop(tmp_path, images):
    """22 images in batches of 2: all of them, each epoch."""
    options = {'train_dataloader.batch_size': 2, 'train_dataloader.drop_last': False}
    visited = []

    def watched(runner):
        dataset = runner.train_dataloader.dataset
        load = dataset.__class__.__getitem__

        class Watched(dataset.__class__):
            def __getitem__(self, key):
                visited.append(key)
                return load(self, key)

        dataset.__class__ = Watched
        return runner

    with pytest.raises(Stopped):
        runner = make_runner(tmp_path / 'run', images, {15: stop}, options=options)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        watched(runner).train()
    runner = make_runner(tmp_path / 'run', images, options=dict(options, resume=True))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    watched(runner).train()
    assert len(visited) == len({(key.epoch, key) for key in visited}) == 44
    for epoch in (0, 1):
        assert sorted(key.index for key in visited if key.epoch == epoch) == list(range(22))
