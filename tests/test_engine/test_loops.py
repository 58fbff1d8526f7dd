"""Which loops there are, and what they say when the data are not those of the interrupted run."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from adpe_mm.engine import ExactEpochTrainLoop, ExactIterTrainLoop
from adpe_mm.engine.loops import FORMER_NAMES, exact_loop, remembering
from tests.test_engine.toy import Stopped, assert_same, draw, final_state, make_runner, stop


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


def test_another_image_in_the_place_of_one_is_said(tmp_path, images):
    """The same number of them, but another order."""
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    (images / '03.png').rename(images / '30.png')
    make_runner(work_dir, images, options=dict(resume=True)).train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly as if never stopped: images of other names\n' in log


def test_images_may_lie_elsewhere(tmp_path, images):
    work_dir = tmp_path / 'run'
    interrupted(work_dir, images)
    moved = tmp_path / 'moved' / 'images'
    moved.parent.mkdir()
    images.rename(moved)
    make_runner(work_dir, moved, options=dict(resume=True)).train()
    log = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'not exactly' not in log


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


@pytest.mark.parametrize(
    'type_', ['IterBasedTrainLoop', 'mmengine.IterBasedTrainLoop', IterBasedTrainLoop, None]
)
def test_loops_of_mmengine_are_replaced(type_):
    """By name, with a scope, as a class of a Python config, or stated by `by_epoch`."""
    loop = dict(by_epoch=False) if type_ is None else dict(type=type_)
    assert exact_loop(dict(loop, max_iters=3)) == dict(type=ExactIterTrainLoop, max_iters=3)
    loop = dict(type=EpochBasedTrainLoop, max_epochs=2)
    assert exact_loop(loop) == dict(loop, type=ExactEpochTrainLoop)
    own = dict(type='adpe_mm.ExactEpochTrainLoop', max_epochs=2)
    assert exact_loop(own) == own


def test_by_iteration_it_is_exact_too(tmp_path, images):
    """With a sampler that ends within the run, and any data set: `Images` by plain indices."""

    def make(name, at=None, **more):
        options = {
            'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=14),
            'train_dataloader.sampler': dict(_delete_=True, type='DefaultSampler'),
            'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=9, by_epoch=False)],
            'custom_hooks': [],  # the runner has the seeds of iterations by itself
            'optim_wrapper.accumulative_counts': 3,
        }
        return make_runner(tmp_path / name, images, at, options=dict(options, **more))

    whole = make('whole')
    whole.train()
    with pytest.raises(Stopped):
        make('run', {8: stop}).train()
    # Between two steps nothing was saved.
    kept = {int(path.stem[5:]) for path in (tmp_path / 'run').glob('iter_*.pth')}
    assert kept == {3, 6}
    resumed = make('run', resume=True, **{'train_dataloader.num_workers': 2})
    resumed.train()
    assert min(resumed.record.losses) == 7
    assert_same(final_state(resumed), final_state(whole))


def test_an_epoch_that_ends_between_two_steps(tmp_path, images):
    """Its checkpoint waits for the next step, and continues there."""
    options = {
        'default_hooks.checkpoint.by_epoch': True,
        'optim_wrapper.accumulative_counts': 2,
        'train_cfg.max_epochs': 3,
        'param_scheduler': [dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1)],
    }
    whole = make_runner(tmp_path / 'whole', images, options=options)
    whole.train()
    work_dir = tmp_path / 'run'
    with pytest.raises(Stopped):
        make_runner(work_dir, images, {9: stop}, options=options).train()
    (path,) = work_dir.glob('*.pth')
    meta = torch.load(path, weights_only=False)['meta']
    assert (path.name, meta['epoch'], meta['iter']) == ('epoch_1.pth', 1, 6)
    resumed = make_runner(work_dir, images, options=dict(options, resume=True))
    resumed.train()
    assert list(resumed.record.losses) == list(range(7, 16))
    assert_same(final_state(resumed), final_state(whole))


def test_what_belongs_to_the_end_of_an_epoch_is_done_once(tmp_path, images):
    """Saved in its last iteration, before the schedules by epoch went on."""
    options = {'param_scheduler': [dict(type='MultiStepLR', milestones=[1], gamma=0.1)]}
    whole = make_runner(tmp_path / 'whole', images, options=options)
    whole.train()
    with pytest.raises(Stopped):
        make_runner(tmp_path / 'run', images, {5: stop}, options=options).train()
    resumed = make_runner(tmp_path / 'run', images, options=dict(options, resume=True))
    resumed.train()
    assert list(resumed.record.losses) == list(range(6, 11))
    assert_same(final_state(resumed), final_state(whole))
    assert final_state(whole)['optimizer']['param_groups'][0]['lr'] == pytest.approx(1e-3)


def test_transforms_with_a_memory_are_named():
    cached = SimpleNamespace(results_cache=[])
    inner = SimpleNamespace(pipeline=SimpleNamespace(transforms=[cached, object()]))
    assert remembering(SimpleNamespace(datasets=[inner], pipeline=[])) == ['SimpleNamespace']
    assert remembering(SimpleNamespace(dataset=inner, pipeline=[object()])) == ['SimpleNamespace']
    assert remembering(SimpleNamespace(pipeline=[object()])) == []
