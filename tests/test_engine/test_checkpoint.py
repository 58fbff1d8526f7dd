"""Checkpoints are whole at any moment, and a signal leaves one to resume from."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from adpe_mm.checkpoints import AtomicLocalBackend, find_resumable
from adpe_mm.evaluation import reconstruction
from adpe_mm.stopping import SIGNALS
from tests.test_engine.toy import ADPE, Stopped, assert_same, draw, final_state, make_runner, stop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(autouse=True)
def handlers():
    """Signals mean after a test what they meant before it."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCHLD)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('fails', ['fsync', 'replace'])
def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, fails):
    path = tmp_path / 'new folder' / 'epoch_1.pth'
    backend = AtomicLocalBackend()
    backend.put(b'old', path)
    seen = []

    def killed(*args):
        seen.extend(file.read_bytes() for file in path.parent.iterdir() if file != path)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, fails, killed)
    with pytest.raises(KeyboardInterrupt):
        backend.put(b'new one', path)
    assert seen == [b'new one']  # it was whole before it was to get its name
    assert path.read_bytes() == b'old'
    assert list(path.parent.iterdir()) == [path]


def test_write_replaces_and_keeps_the_usual_permissions(tmp_path):
    backend = AtomicLocalBackend()
    (tmp_path / 'plain').touch()
    (tmp_path / '.a.tmp').write_bytes(b'left by a process that was killed')
    backend.put(b'1', tmp_path / 'a')
    backend.put_text('zwei', tmp_path / 'a')
    assert (tmp_path / 'a').read_text() == 'zwei'
    assert {file.name for file in tmp_path.iterdir()} == {'a', 'plain'}
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_old_checkpoint_goes_only_when_the_new_one_is_safe(tmp_path, images, monkeypatch):
    moments = []

    def look(real):
        def wrapper(*args):
            pointer = tmp_path / 'last_checkpoint'
            if pointer.exists():
                path, remark = find_resumable(tmp_path)
                assert Path(path).name == Path(pointer.read_text()).name and remark is None
                moments.append(Path(pointer.read_text()).name)
            return real(*args)

        return wrapper

    for name in ('fsync', 'replace', 'remove'):
        monkeypatch.setattr(os, name, look(getattr(os, name)))
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1}
    make_runner(tmp_path, images, options=options).train()
    # Even with one checkpoint kept, the newest that is named was whole at each of these moments.
    assert list(dict.fromkeys(moments)) == [f'iter_{i}.pth' for i in range(1, 11)]
    assert [file.name for file in tmp_path.glob('*.pth')] == ['iter_10.pth']
    assert not list(tmp_path.glob('.*'))


def test_kept_are_the_newest_also_over_a_stop(tmp_path, images):
    options = {'default_hooks.checkpoint.max_keep_ckpts': 3}
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, {5: stop}, options=options).train()
    assert sorted(file.name for file in tmp_path.glob('*.pth')) == [
        f'iter_{i}.pth' for i in (3, 4, 5)
    ]
    make_runner(tmp_path, images, options=dict(options, resume=True)).train()
    assert {file.name for file in tmp_path.glob('*.pth')} == {f'iter_{i}.pth' for i in (8, 9, 10)}


def test_images_that_cannot_be_drawn_cost_no_epoch(tmp_path, images, monkeypatch):
    monkeypatch.setattr(reconstruction, 'reconstruction_sheet', lambda rows: stop())
    options = {
        'custom_hooks': [dict(type='adpe_mm.ReconstructionHook')],
        'default_hooks.checkpoint.by_epoch': True,
    }
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, model=ADPE, options=options).train()
    assert [file.name for file in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_a_drawing_that_a_run_was_killed_in_is_drawn_by_the_next(tmp_path, images, monkeypatch):
    options = {
        'custom_hooks': [dict(type='adpe_mm.ReconstructionHook')],
        'default_hooks.checkpoint.by_epoch': True,
        'visualizer': dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    }

    def killed(rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(reconstruction, 'reconstruction_sheet', killed)
    with pytest.raises(KeyboardInterrupt):
        make_runner(tmp_path, images, model=ADPE, options=options).train()
    monkeypatch.undo()
    make_runner(tmp_path, images, model=ADPE, options=dict(options, resume=True)).train()
    drawn = sorted(path.name for path in tmp_path.rglob('reconstruction_*.png'))
    assert drawn == ['reconstruction_1.png', 'reconstruction_2.png']


def test_nothing_to_resume_from_is_no_error(tmp_path):
    assert find_resumable(tmp_path) == (None, None)
    assert find_resumable(tmp_path, 's3://bucket/remote.pth')[0] == 's3://bucket/remote.pth'
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.pth', is gone"):
        find_resumable(tmp_path, 'nowhere.pth')


def test_a_broken_checkpoint_is_replaced_by_the_newest_good_one(tmp_path, images):
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, {4: stop}).train()
    paths = [tmp_path / f'iter_{i}.pth' for i in (1, 2, 3, 4)]
    for path in paths:  # times do not tell which is the newest
        os.utime(path, ns=(10**9, 10**9 * (9 - int(path.stem[-1]))))
    whole = paths[3].read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (whole[:-1000], whole[:middle], flipped, b''):
        paths[3].write_bytes(content)
        path, remark = find_resumable(tmp_path)
        assert path == str(paths[2])
        assert 'iter_4.pth' in remark and 'resuming from the newest good checkpoint' in remark
        with pytest.raises(ValueError, match=r'iter_4\.pth.*(damaged|empty)'):
            find_resumable(tmp_path, str(paths[3]))
    paths[3].unlink()
    paths[2].write_text('no checkpoint')
    second = make_runner(tmp_path, images, options=dict(resume=True))
    second.train()
    assert list(second.record.losses) == list(range(3, 11))
    log = sorted(tmp_path.glob('*/*.log'))[-1].read_text()
    assert "iter_4.pth', is gone; resuming from the newest good checkpoint" in log


def test_no_good_checkpoint_is_left(tmp_path, images):
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, {2: stop}).train()
    for path in tmp_path.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match='damaged.* no other to resume from: name .*--resume PATH'):
        make_runner(tmp_path, images, options=dict(resume=True)).train()
    (tmp_path / 'last_checkpoint').unlink()  # as the message proposes
    assert find_resumable(tmp_path) == (None, None)


@pytest.mark.parametrize('copied', [False, True])
def test_a_work_dir_that_was_moved_resumes(tmp_path, images, copied):
    """And leaves alone what lies where it was."""
    old, new = tmp_path / 'old', tmp_path / 'new'
    with pytest.raises(Stopped):
        make_runner(old, images, {3: stop}).train()
    (shutil.copytree if copied else shutil.move)(old, new)
    before = {path: path.read_bytes() for path in old.rglob('*.pth')}
    second = make_runner(new, images, options=dict(resume=True))
    second.train()
    assert list(second.record.losses) == list(range(4, 11))
    assert Path((new / 'last_checkpoint').read_text()).parent == new
    assert before == {path: path.read_bytes() for path in old.rglob('*.pth')}


def test_without_the_file_that_names_the_newest(tmp_path, images):
    with pytest.raises(Stopped):
        make_runner(tmp_path, images, {3: stop}).train()
    torch.save(dict(state_dict={'a': torch.zeros(1)}, meta=dict(iter=9)), tmp_path / 'best.pth')
    for content in (None, '', '\0\0', 'nowhere/iter_3.pth'):
        (tmp_path / 'last_checkpoint').unlink(missing_ok=True)
        if content is not None:
            (tmp_path / 'last_checkpoint').write_text(content)
        assert find_resumable(tmp_path)[0] == str(tmp_path / 'iter_3.pth')


def test_a_checkpoint_from_before_the_look_up_was_kept_resumes_exactly(tmp_path, images):
    whole = make_runner(tmp_path / 'whole', images, model=ADPE)
    whole.train()
    work_dir = tmp_path / 'stopped'
    with pytest.raises(Stopped):
        make_runner(work_dir, images, {3: stop}, model=ADPE).train()
    path = work_dir / 'iter_3.pth'
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta'].pop('adpe_mm')['iterations'] == 3
    kept = [name for name in checkpoint['state_dict'] if name.endswith('_extra_state')]
    assert len(kept) == 3  # two blocks of the encoder, one of the decoder
    for name in kept:
        del checkpoint['state_dict'][name]
    torch.save(checkpoint, path)
    resumed = make_runner(work_dir, images, model=ADPE, options=dict(resume=True))
    resumed.train()
    assert_same(final_state(resumed), final_state(whole))


def send(*numbers):
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


def by_epoch(**more):
    return {'default_hooks.checkpoint.by_epoch': True, **more}


@pytest.mark.parametrize('name', [number.name for number in SIGNALS])
def test_signal_saves_and_the_run_resumes_exactly(tmp_path, images, handlers, name):
    whole = make_runner(tmp_path / 'whole', images, options=by_epoch())
    whole.train()
    assert {number: signal.getsignal(number) for number in handlers} == handlers

    work_dir = tmp_path / 'stopped'
    # `Record` runs after the checkpoint hook: the signal finds iteration 3 running.
    first = make_runner(work_dir, images, {2: send(getattr(signal, name))}, options=by_epoch())
    with pytest.raises(SystemExit) as stopped:
        first.train()
    assert stopped.value.code == 143
    path = work_dir / 'stopped_iter_3.pth'
    assert (work_dir / 'last_checkpoint').read_text() == str(path)
    log = next(work_dir.glob('*/*.log')).read_text()
    assert re.search(
        f'stopped by {name} after iteration 3; the newest.* is {path}; .*--resume', log
    )

    second = make_runner(work_dir, images, options=by_epoch(resume=True))
    second.train()
    assert list(second.record.losses) == list(range(4, 11))
    assert_same(final_state(second), final_state(whole))
    assert {file.name for file in work_dir.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}


def test_stopped_twice_leaves_one_file(tmp_path, images):
    for at in (1, 3):
        with pytest.raises(SystemExit):
            make_runner(
                tmp_path, images, {at: send(signal.SIGTERM)}, options=by_epoch(resume=True)
            ).train()
    assert [file.name for file in tmp_path.glob('*.pth')] == ['stopped_iter_4.pth']


def test_second_ctrl_c_is_final(tmp_path, images, monkeypatch, capsys):
    """While the first one has it save; but one that comes twice at once is one."""

    def pressed_again(*args):
        now = time.monotonic()
        monkeypatch.setattr(time, 'monotonic', lambda: now + 2)
        os.kill(os.getpid(), signal.SIGINT)

    runner = make_runner(
        tmp_path, images, {2: send(signal.SIGINT, signal.SIGINT)}, options=by_epoch()
    )
    monkeypatch.setattr(os, 'fsync', pressed_again)
    with pytest.raises(SystemExit):
        runner.train()
    assert capsys.readouterr().err.splitlines()[-1].startswith('stopped a second time')
    assert not [path for path in tmp_path.iterdir() if path.suffix in ('.pth', '.tmp')]


def test_stop_waits_for_the_step_that_gradients_are_collected_for(tmp_path, images):
    options = by_epoch(**{'optim_wrapper.accumulative_counts': 3})
    runner = make_runner(tmp_path, images, {3: send(signal.SIGTERM)}, options=options)
    with pytest.raises(SystemExit):
        runner.train()
    assert list(runner.record.losses) == [1, 2, 3, 4, 5]  # `Record` comes after the exit at 6
    # That of epoch 1 has waited too, and so there is one of iteration 6.
    assert [file.name for file in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['meta']['iter'] == 6


def test_signal_in_the_last_iteration_lets_the_run_end(tmp_path, images):
    runner = make_runner(tmp_path, images, {9: send(signal.SIGTERM)}, options=by_epoch())
    runner.train()
    assert (tmp_path / 'epoch_2.pth').exists()
    assert not list(tmp_path.glob('stopped*'))


COMMAND = [
    'configs/pretrain/adpe_vit-mini_mini.py',
    '--cfg-options',
    'train_dataloader.dataset.data_prefix.img_path=',
    'train_dataloader.batch_size=2',
    'train_cfg.max_epochs=2',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.by_epoch=True',
    'randomness.seed=0',
]


def command(processes, work_dir, images, *options):
    launch = [sys.executable]
    if processes > 1:
        launch += ['-m', 'adpe_mm.torchrun', f'--nproc_per_node={processes}']
        launch += ['--master_port=0', '--rdzv_backend=c10d', '--rdzv_endpoint=localhost:0']
    launch += ['tools/train.py', *COMMAND, f'train_dataloader.dataset.data_root={images}']
    launch += ['--work-dir', str(work_dir), *options]
    return launch + (['--launcher', 'pytorch'] if processes > 1 else [])


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_stopped_job_resumes_exactly(tmp_path, images, processes):
    """The real command with loader processes: SIGTERM in mid-epoch, then --resume."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')

    def start(work_dir, *options):
        return subprocess.Popen(
            command(processes, work_dir, images, *options),
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    job = start(tmp_path / 'whole')
    output = job.communicate(timeout=240)[0]
    assert job.returncode == 0, output

    job = start(tmp_path / 'stopped')
    output = ''
    for line in job.stdout:
        output += line
        if re.search(r'Epoch\(train\) +\[1\]\[ *2/', line):
            job.terminate()
            sent = time.monotonic()
    code = job.wait(timeout=60)
    assert time.monotonic() - sent < 45
    assert code == 143, output
    assert 'Traceback' not in output, output
    newest = Path((tmp_path / 'stopped' / 'last_checkpoint').read_text())
    assert newest.name.startswith('stopped_iter_'), output

    job = start(tmp_path / 'stopped', '--resume')
    output = job.communicate(timeout=240)[0]
    assert job.returncode == 0, output
    whole, resumed = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)
        for name in ('whole', 'stopped')
    )
    assert_same(whole['state_dict'], resumed['state_dict'])
    assert_same(whole['optimizer']['state'], resumed['optimizer']['state'])
