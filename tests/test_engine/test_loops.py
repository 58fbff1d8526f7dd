"""What the loop says when the data no longer are those of the interrupted run."""

import pytest

from tests.test_engine.toy import Stopped, draw, make_runner, stop


@pytest.fixture
def pictures(tmp_path):
    return draw(tmp_path / 'pictures', 22)


def interrupted(work_dir, pictures, **options):
    with pytest.raises(Stopped):
        make_runner(work_dir, pictures, {3: stop}, options=options).train()


def test_too_few_pictures_for_a_batch(tmp_path, pictures):
    runner = make_runner(tmp_path, pictures, options={'train_dataloader.batch_size': 23})
    with pytest.raises(ValueError, match='the 22 pictures do not fill one batch: lower'):
        runner.train()


def test_another_number_of_iterations_is_refused(tmp_path, pictures):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, pictures)
    options = {'resume': True, 'train_dataloader.batch_size': 5}
    with pytest.raises(ValueError, match='had 5 iterations an epoch and now has 4: resume with'):
        make_runner(work_dir, pictures, options=options).train()


def test_other_changes_are_said_in_one_line(tmp_path, pictures, caplog):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, pictures)
    (pictures / '21.png').unlink()
    runner = make_runner(work_dir, pictures, options=dict(resume=True))
    runner.train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly as if never stopped: 21 pictures (were 22)' in log
    assert list(runner.record.losses) == list(range(4, 11))


def test_nothing_is_said_when_nothing_changed(tmp_path, pictures):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, pictures)
    make_runner(work_dir, pictures, options=dict(resume=True)).train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly' not in log


def test_every_picture_is_visited_once_an_epoch_over_a_stop(tmp_path, pictures):
    """22 pictures in batches of 2: all of them, each epoch."""
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
        runner = make_runner(tmp_path / 'run', pictures, {15: stop}, options=options)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        watched(runner).train()
    runner = make_runner(tmp_path / 'run', pictures, options=dict(options, resume=True))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    watched(runner).train()
    assert len(visited) == len(set(visited)) == 44
    for epoch in (0, 1):
        assert sorted(key.index for key in visited if key.epoch == epoch) == list(range(22))


def test_a_sampler_that_cannot_skip_is_named(tmp_path, pictures):
    options = {'train_dataloader.sampler': dict(type='DefaultSampler', shuffle=True)}
    interrupted(tmp_path / 'run', pictures, **options)
    with pytest.raises(ValueError, match='DefaultSampler cannot continue in mid-epoch: use'):
        make_runner(tmp_path / 'run', pictures, options=dict(options, resume=True)).train()
