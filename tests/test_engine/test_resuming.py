"""A run that is resumed with other settings goes on with them, says so, or is refused."""

import copy
import math
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from adpe_mm.engine import resuming
from tests.test_engine.toy import ADPE, NOISY, Stopped, draw, make_runner, stop

SCHEDULES = [
    dict(type='adpe_mm.LinearLR', start_factor=0.1, end=0.2),
    dict(type='adpe_mm.CosineAnnealingLR', begin=0.2, eta_min=0.0),
]
OPTIMIZER = 'optim_wrapper.optimizer.'
LR = OPTIMIZER + 'lr'
SCALED = {'auto_scale_lr': dict(enable=True, base_batch_size=16)}


class Rates(Hook):
    """Keeps the settings of all groups in each iteration, counted from 0."""

    def __init__(self):
        self.groups = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.param_groups
        self.groups[runner.iter] = [
            {k: copy.copy(v) for k, v in group.items() if k != 'params'} for group in groups
        ]

    def of(self, name='lr'):
        return {i: [group[name] for group in groups] for i, groups in self.groups.items()}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


def train(work_dir, images, options, model=NOISY, at=None):
    runner = make_runner(work_dir, images, at, model, {'param_scheduler': SCHEDULES, **options})
    runner.rates = Rates()
    runner.register_hook(runner.rates)
    runner.train()
    return runner


def interrupt(work_dir, images, options=None, model=NOISY, after=6):
    with pytest.raises(Stopped):
        train(work_dir, images, options or {}, model, {after: stop})


def last_log(work_dir) -> str:
    return max(Path(work_dir).glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()


def test_a_longer_run_has_the_schedule_of_its_length(tmp_path, images):
    """By the formula: half a cosine from the end of the warm-up to the new end."""
    interrupt(tmp_path, images)
    runner = train(tmp_path, images, {'resume': True, 'train_cfg.max_epochs': 4})
    rates = runner.rates.of()
    assert list(rates) == list(range(6, 20))
    warm_up = 4  # a fifth of 20
    for iteration, groups in rates.items():
        progress = (iteration - warm_up) / (20 - warm_up)
        expected = 1e-2 * (1 + math.cos(math.pi * progress)) / 2
        assert groups == pytest.approx([expected] * len(groups), rel=1e-9)
    log = last_log(tmp_path)
    assert 'resumed with another train_cfg.max_epochs: 4 (was 2)' in log
    assert 'lr at iteration 6 is 0.009619 (was 0.005)' in log


@pytest.mark.parametrize(
    'changed',
    [
        {OPTIMIZER + "betas": (0.8, 0.9), OPTIMIZER + "eps": 1e-4, OPTIMIZER + "weight_decay": 0.3},
        {'train_cfg.max_epochs': 3, LR: 2e-2},
        {'param_scheduler': [dict(type='PolyLR', power=0.9, eta_min=1e-4, end=10, by_epoch=False)]},
        {'param_scheduler': [dict(type='MultiStepLR', milestones=[1], gamma=0.3, by_epoch=True)]},
        {'param_scheduler': [dict(type='ExponentialLR', gamma=0.9, by_epoch=False)] + SCHEDULES},
        {'param_scheduler': []},
        SCALED,
        {'optim_wrapper.accumulative_counts': 2, **SCALED},
    ],
    ids=lambda changed: '-'.join(changed),
)  # fmt: skip
def test_settings_are_those_of_a_run_that_had_them_all_along(tmp_path, images, changed):
    whole = train(tmp_path / 'whole', images, changed).rates.groups
    interrupt(tmp_path / 'run', images)
    resumed = train(tmp_path / 'run', images, dict(changed, resume=True)).rates.groups
    assert list(resumed) == [i for i in whole if i >= 6] and len(resumed) >= 4
    assert resumed == {i: whole[i] for i in resumed}
    assert 'resumed with another ' in last_log(tmp_path / 'run')


def test_groups_have_their_own_lr(tmp_path, images):
    before = {'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.5, ascent=dict(lr=1e-3))}
    changed = {'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.8, ascent=dict(lr=7e-3))}
    interrupt(tmp_path, images, before, ADPE)
    groups = train(tmp_path, images, dict(changed, resume=True), ADPE).rates.groups[8]
    of_schedule = (1 + math.cos(math.pi * (8 - 2) / (10 - 2))) / 2
    # The network has two blocks: depths from 0, the patch embedding, to 3, norm and decoder.
    depths = [group['depth'] for group in groups if 'depth' in group]
    assert set(depths) == {0, 1, 2, 3}
    expected = [1e-2 * 0.8 ** (3 - depth) * of_schedule for depth in depths]
    assert [g['lr'] for g in groups if 'depth' in g] == pytest.approx(expected, rel=1e-9)
    [adversary] = [group['lr'] for group in groups if group.get('maximize')]
    assert adversary == pytest.approx(7e-3 * of_schedule, rel=1e-9)


def test_nothing_is_touched_where_nothing_changed(tmp_path, images, monkeypatch):
    """Also in what training does not depend on."""
    monkeypatch.setattr(resuming, 'fast_forward', lambda *_: pytest.fail('not the same'))
    workers = {'train_dataloader.num_workers': 1, 'default_hooks.logger.interval': 2}
    interrupt(tmp_path, images)
    train(tmp_path, images, dict(workers, resume=True))
    assert 'resumed with' not in last_log(tmp_path)


def test_settings_of_the_method_are_said_and_taken(tmp_path, images):
    interrupt(tmp_path, images, model=ADPE)
    options = {'resume': True, 'model.adversary.eps': 2e-3, 'model.backbone.mask_ratio': 0.5}
    runner = train(tmp_path, images, options, ADPE)
    assert runner.model.adversary.eps == 2e-3 and runner.model.backbone.mask_ratio == 0.5
    log = last_log(tmp_path)
    assert 'resumed with another model.adversary.eps: 0.002 (was 0.001)' in log
    assert 'resumed with another model.backbone.mask_ratio: 0.5 (was None)' in log


@pytest.mark.parametrize(
    'changed, sentence',
    [
        (
            {'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.1)},
            r"optim_wrapper\.optimizer\.type='AdamW', and cannot go on with 'SGD'",
        ),
        ({'model.backbone.arch.num_heads': 1}, r'arch\.num_heads=3, and cannot go on with 1'),
        ({'model.neck.num_heads': 4}, r'model\.neck\.num_heads=2, and cannot'),
        ({'optim_wrapper.paramwise_cfg': dict(decay_1d=True)}, 'groups of .*, were .*'),
        ({'train_cfg.max_epochs': 1}, 'has trained 6 iterations .* ends it after 5'),
    ],
)
def test_what_cannot_change_is_refused(tmp_path, images, changed, sentence):
    interrupt(tmp_path, images, model=ADPE)
    with pytest.raises(ValueError, match=f'{sentence}.* start a new run') as error:
        train(tmp_path, images, dict(changed, resume=True), ADPE)
    assert '\n' not in str(error.value)
    if 'optim_wrapper.optimizer' in changed:  # as the sentence proposes
        assert 'from its weights with load_from' in str(error.value)
        start = dict(changed, load_from=str(tmp_path / 'iter_6.pth'))
        assert len(train(tmp_path / 'new', images, start, ADPE).record.losses) == 10


def test_the_best_checkpoint_of_another_folder_is_never_named(tmp_path, images):
    old, new = tmp_path / 'old', tmp_path / 'new'
    interrupt(old, images)
    info = dict(last_ckpt=str(old / 'iter_6.pth'), best_ckpt=str(old / 'best_6.pth'), epoch=1)
    runner = make_runner(new, images)
    new.mkdir(exist_ok=True)
    (new / 'iter_6.pth').touch()
    checkpoint = dict(message_hub=dict(runtime_info=info))
    resuming._rename_files(runner, checkpoint)
    assert info == dict(last_ckpt=str(new / 'iter_6.pth'), best_ckpt=None, epoch=1)
