"""Images that cannot be read: named once, counted, and fatal when they are many."""

import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope

from adpe_mm.engine import UnreadableImagesHook
from tests.test_engine.stoppable import ended
from tests.test_engine.stoppable import run as run_processes
from tests.test_engine.toy import NUMBER, Stopped, draw, make_runner, stop
from tests.test_transfer import CONFIGS, options

ROOT = Path(__file__).parents[2]


def run(tmp_path, broken, **hook):
    images = draw(tmp_path / 'images', 20, broken)
    hooks = [dict(type='adpe_mm.UnreadableImagesHook', **hook)]
    runner = make_runner(tmp_path / 'run', images, options=dict(custom_hooks=hooks))
    return runner, lambda: next((tmp_path / 'run').glob('*/*.log')).read_text()


def test_each_is_named_once_and_training_goes_on(tmp_path):
    runner, log = run(tmp_path, broken=(4, 11), max_fraction=0.5)
    runner.train()
    assert len(runner.record.losses) == 10
    named = re.findall(r'skipped an image that cannot be read: \S*/(\d+)\.png', log())
    assert sorted(named) == ['04', '11']  # two epochs met each twice, at least
    assert '2 images could not be read so far' in log()
    hook = next(hook for hook in runner.hooks if isinstance(hook, UnreadableImagesHook))
    # 20 images per epoch, 2 of them replaced, perhaps by the other broken one.
    assert hook.failed >= 4 and hook.opened == 40 + hook.failed
    logged = runner.message_hub.get_scalar('train/unreadable').current()
    assert logged == pytest.approx(hook.failed / hook.opened)


def test_a_resumed_run_counts_on(tmp_path):
    """The log ends as that of a run that was never stopped, and names none again."""
    whole, log = run(tmp_path, broken=(4, 11, 12), max_fraction=0.5)
    whole.train()
    options = dict(
        custom_hooks=[dict(type='adpe_mm.UnreadableImagesHook', max_fraction=0.5)], resume=True
    )
    for at in (2, 6, None):
        runner = make_runner(tmp_path / 'b', tmp_path / 'images', {at: stop}, options=options)
        with pytest.raises(Stopped) if at else nullcontext():
            runner.train()
    counts = [
        (hook.failed, hook.opened, hook.named)
        for each in (whole, runner)
        for hook in each.hooks
        if isinstance(hook, UnreadableImagesHook)
    ]
    assert counts[0] == counts[1]
    logs = ''.join(path.read_text() for path in sorted((tmp_path / 'b').glob('*/*.log')))
    for text in (log(), logs):
        assert set(re.findall(r'(\d+) images could not be read so far', text)) == {'3'}
    named = re.findall(r'skipped an image that cannot be read: \S*/(\d+)\.png', logs)
    assert sorted(named) == ['04', '11', '12']


def test_whole_images_log_nothing(tmp_path):
    runner, log = run(tmp_path, broken=())
    runner.train()
    assert 'cannot be read' not in log() and 'could not be read' not in log()
    assert 'train/unreadable' not in runner.message_hub.log_scalars


def test_too_many_stop_the_run(tmp_path):
    runner, _ = run(tmp_path, broken=range(0, 20, 4), max_fraction=0.05, min_images=1000)
    with pytest.raises(ValueError, match='images could not be read, more than.*0.05') as error:
        runner.train()
    # Judged only after as many images as there are, although the first batch had broken ones.
    failed, opened = map(int, re.match(r'(\d+) of (\d+) ', str(error.value)).groups())
    assert 20 <= opened < 30 and failed > 2
    assert opened == 4 * (len(runner.record.losses) + 1) + failed


def test_all_processes_stop_though_one_met_it(tmp_path, capfd):
    """One broken image of twenty is in the batches of one of the two processes."""
    images = draw(tmp_path / 'images', 20, broken=(4,))
    hook = dict(type='adpe_mm.UnreadableImagesHook', max_fraction=0, min_images=1)
    jobs, _ = run_processes(2, images, tmp_path / 'run', custom_hooks=[hook])
    assert ended(jobs) == {1}
    said = re.findall(r'train: 1 of 21 images could not be read.*', capfd.readouterr().err)
    assert len(said) == 2 and all('04.png' in line for line in said)


def test_all_broken_end_in_a_sentence(tmp_path):
    runner, _ = run(tmp_path, broken=range(20))
    with pytest.raises(ValueError, match=r'100 images in a row cannot be read.*data_root'):
        runner.train()


def test_fraction_must_be_one():
    with pytest.raises(ValueError, match=r'max_fraction must lie in \[0, 1\], got 5'):
        UnreadableImagesHook(max_fraction=5)


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    out = tmp_path_factory.mktemp('mini') / 'mini'
    command = [sys.executable, ROOT / 'tools' / 'dataset_converters' / 'make_mini.py', out]
    subprocess.run([*command, '--train', '8', '--val', '9'], check=True, capture_output=True)
    return out


def train(task, data, work_dir, max_fraction, **overrides):
    cfg = Config.fromfile(ROOT / CONFIGS[task])
    cfg.merge_from_dict(options(task, data, 'rpe', steps=6))
    cfg.merge_from_dict(
        {
            'default_hooks.unreadable_images.max_fraction': max_fraction,
            'work_dir': str(work_dir),
            'experiment_name': f'unreadable{next(NUMBER)}',
            **overrides,
        }
    )
    init_default_scope(cfg.default_scope)
    RUNNERS.build(cfg).train()
    return next(work_dir.glob('*/*.log')).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    'task, images',
    [('cls', 'imagenet/train'), ('seg', 'ade/images/training'), ('det', 'coco/train2017')],
)
def test_tasks_name_skip_and_refuse(mini, tmp_path, task, images):
    """By the fraction that the config allows; in each task, of images and masks."""
    data = tmp_path / 'data'
    shutil.copytree(mini, data)
    broken = sorted((data / images).rglob('*.jpg'))[1]
    broken.write_bytes(b'')
    if task == 'seg':
        broken = sorted((data / 'ade' / 'annotations' / 'training').glob('*.png'))[4]
        broken.write_bytes(broken.read_bytes()[:60])
    for workers in (0, 1):
        log = train(
            task, data, tmp_path / f'run{workers}', 0.9, **{'train_dataloader.num_workers': workers}
        )
        assert log.count(f'skipped an image that cannot be read: {broken} (') == 1
    with pytest.raises(ValueError, match=rf'fraction of 0 that .*{re.escape(str(data))}'):
        train(task, data, tmp_path / 'refused', 0)
