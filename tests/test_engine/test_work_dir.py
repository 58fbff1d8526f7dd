"""A work dir belongs to one run: another is told so, and takes it over when that one is gone."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adpe_mm.engine import work_dir
from adpe_mm.engine.work_dir import NAME, own_work_dir
from adpe_mm.errors import UserError

ROOT = Path(__file__).parents[2]
FORK = multiprocessing.get_context('fork')


def in_a_process(function, *arguments):
    def call(pipe):
        try:
            pipe.send(function(*arguments))
        except ValueError as error:
            pipe.send(str(error))

    ours, theirs = FORK.Pipe()
    job = FORK.Process(target=call, args=(theirs,), daemon=True)
    job.start()
    return job, ours


def own_and_wait(folder, seconds=60):
    with own_work_dir(folder):
        (folder / 'mine').touch()
        time.sleep(seconds)


@pytest.fixture
def holder(tmp_path):
    job, _ = in_a_process(own_and_wait, tmp_path)
    for _ in range(100):
        if (tmp_path / 'mine').exists():
            break
        time.sleep(0.05)
    yield job
    job.kill()
    job.join()


def test_a_second_run_is_told_which_is_the_first(tmp_path, holder):
    said = rf"'{tmp_path}' belongs to another run, process {holder.pid} on \S+ since 20\d\d-"
    with pytest.raises(ValueError, match=said), own_work_dir(tmp_path):
        pass
    assert (tmp_path / NAME).exists()


def test_a_signal_while_it_is_written_leaves_none(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        file = open(*args, **kwargs)  # noqa: SIM115

        class HalfWritten:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, text):
                file.write(text[:9])
                file.flush()
                raise KeyboardInterrupt

        return HalfWritten()

    monkeypatch.setattr(work_dir, 'open', interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt), own_work_dir(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_one_is_succeeded_at_once(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    (tmp_path / '.epoch_1.pth.tmp').touch()  # half a checkpoint
    start = time.monotonic()
    with own_work_dir(tmp_path):
        assert time.monotonic() - start < 2
        assert json.loads((tmp_path / NAME).read_text())['process'] == os.getpid()
    assert {path.name for path in tmp_path.iterdir()} == {'mine'}


def test_a_process_of_the_same_number_is_another_one(tmp_path):
    with own_work_dir(tmp_path):
        held = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(dict(held, started='1')))  # before a reboot, say
    with own_work_dir(tmp_path):
        pass


@pytest.mark.parametrize('lives', [True, False])
def test_on_another_machine_it_gives_signs_of_life(tmp_path, monkeypatch, capsys, lives):
    lock = tmp_path / NAME
    lock.write_text(json.dumps(dict(host='node7', process=12, since='then', boot='x')))
    monkeypatch.setattr(work_dir, 'PATIENCE', 1.0)
    monkeypatch.setattr(work_dir, 'BEAT', 0.2)
    done = threading.Event()
    if lives:
        threading.Thread(target=work_dir._keep, args=(lock, done)).start()
        with pytest.raises(ValueError, match='process 12 on node7 since then'):
            own_and_wait(tmp_path, 0)
    else:
        own_and_wait(tmp_path, 0)
        assert not lock.exists()
    done.set()
    assert 'was used on node7: waiting 1 s' in capsys.readouterr().err


def test_of_many_successors_one_has_it(tmp_path):
    """All of them find the lock of a dead one at the same time."""
    for _ in range(3):
        (tmp_path / NAME).write_text(json.dumps(dict(work_dir._this_process(), started='1')))
        jobs = [in_a_process(own_and_wait, tmp_path, 2) for _ in range(6)]
        answers = [pipe.recv() for _, pipe in jobs]
        for job, _ in jobs:
            job.join()
        assert sum(answer is None for answer in answers) == 1
        assert sum('belongs to another run' in str(answer) for answer in answers) == 5


@pytest.mark.slow
def test_the_command_says_it_in_one_sentence(tmp_path, holder):
    command = [sys.executable, 'tools/train.py', 'configs/pretrain/adpe_vit-mini_mini.py']
    done = subprocess.run(
        [*command, '--work-dir', tmp_path], capture_output=True, text=True, cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES=''),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train: '{tmp_path}' belongs to another run")
    assert 'Traceback' not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {'mine', NAME}


def test_a_work_dir_that_cannot_be(tmp_path):
    (tmp_path / 'file').touch()
    for place in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        refused = pytest.raises(UserError, match='cannot be made .*--work-dir')
        with refused, own_work_dir(place):
            pass
