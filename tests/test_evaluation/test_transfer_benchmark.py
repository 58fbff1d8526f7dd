"""tools/benchmarks/transfer.py plans the right runs, in order, and continues where it was."""

import gzip
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adpe_mm.evaluation import transfer
from tests.helpers import tiny_model

ROOT = Path(__file__).parents[2]
MINI = 'configs/pretrain/adpe_vit-mini_mini.py'
CONFIGS = dict(
    cls='configs/cls/adpe-vit-mini_mini.py',
    seg='configs/seg/upernet_adpe-vit-mini_mini.py',
    det='configs/det/mask-rcnn_adpe-vit-mini_mini.py',
)


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)

    def make(*entries, **changes):
        settings = dict(
            entries=list(entries), out=tmp_path / 'out', seeds=[0], repeat_pretraining=False,
            pretrain_options=[], cls_options=[], seg_options=[], det_options=[], **CONFIGS,
        )  # fmt: skip
        return Namespace(**settings | changes)

    return make


def test_each_run_comes_after_what_it_needs(arguments):
    args = arguments(MINI, 'scratch', seeds=[3, 4], pretrain_options=['train_cfg.max_epochs=2'])
    runs = list(transfer.plan(args))
    names = [run.name for run in runs]
    tasks = [f'{t}_seed{s}{end}' for s in (3, 4) for t in CONFIGS for end in ('', '/test')]
    assert names == [
        'adpe_vit-mini_mini/pretrain',
        *(f'adpe_vit-mini_mini/{task}' for task in tasks),
        *(f'scratch/{task}' for task in tasks),
    ]
    checkpoint = args.out / 'adpe_vit-mini_mini' / 'pretrain' / 'epoch_2.pth'
    for run in runs[1:]:
        given = [o for o in run.options if 'init_cfg' in o]
        scratch = run.name.startswith('scratch')
        expected = f'.checkpoint={checkpoint}' if not scratch else '=None'
        assert given == [f'model.backbone.init_cfg{expected}']
        assert ('optim_wrapper.paramwise_cfg.layer_decay_rate=1.0' in run.options) == scratch
    tested = {run.name: run.checkpoint.name for run in runs if run.checkpoint}
    assert tested['scratch/cls_seed3/test'] == 'epoch_8.pth'
    assert tested['scratch/det_seed4/test'] == 'iter_400.pth'


def test_pretraining_may_be_repeated_for_each_seed(arguments):
    args = arguments(MINI, seeds=[0, 1], repeat_pretraining=True, seg='none', det='none')
    runs = list(transfer.plan(args))
    assert [run.name.split('/')[1] for run in runs if not run.checkpoint] == [
        'pretrain_seed0', 'cls_seed0', 'pretrain_seed1', 'cls_seed1',
    ]  # fmt: skip
    assert 'pretrain_seed1' in runs[-1].options[-1]


@pytest.mark.parametrize(
    'position, mode',
    [
        ('ape', 'embedding'),
        ('rpe', 'coordinate'),
        ('rpe', None),
    ],
)
def test_a_checkpoint_says_what_the_backbone_is(arguments, tmp_path, position, mode):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=tiny_model(position, mode).state_dict()), path)
    run, *_ = transfer.plan(arguments(f'mine={path}'))
    assert f'model.backbone.position={position}' in run.options
    assert 'rpe_lookup' not in ' '.join(run.options)  # the weights bring it


def test_what_is_complete_is_left_alone(arguments, monkeypatch, tmp_path, capsys):
    runs = list(transfer.plan(arguments('scratch', det='none')))
    done = []

    def run_or_fail(run, tools, processes):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(run.name)
        run.work_dir.mkdir(parents=True, exist_ok=True)
        run.mark.touch()

    monkeypatch.setattr(transfer, 'execute', run_or_fail)
    with pytest.raises(KeyboardInterrupt):
        transfer.execute_all(runs, ROOT / 'tools', 2)
    assert done == ['scratch/cls_seed0', 'scratch/cls_seed0/test', 'scratch/seg_seed0']
    done.clear()
    transfer.execute_all(runs, ROOT / 'tools', 2)
    assert done == ['scratch/seg_seed0/test']
    assert '4 runs, 3 of them complete' in capsys.readouterr().out


def test_a_run_that_fails_shows_its_log(arguments, tmp_path, monkeypatch):
    run = transfer.Run('a/cls', 'none.py', tmp_path / 'a', ())
    monkeypatch.setattr(
        transfer.Run,
        'local_command',
        lambda self, tools, processes: [
            sys.executable,
            '-c',
            'print("the reason"); raise SystemExit(3)',
        ],
    )
    with pytest.raises(RuntimeError, match='a/cls failed(.|\n)*the reason'):
        transfer.execute(run, ROOT / 'tools', 1)
    assert not run.mark.exists()


CHAIN = """
import sys
from pathlib import Path
from adpe_mm.evaluation import transfer
from adpe_mm.launch import one_sentence_errors
from adpe_mm.stopping import stop

folder = Path(sys.argv[1])
child = f'import os, time; open({str(folder / "child")!r}, "w").write(str(os.getpid()))'
child += '; time.sleep(60)'
transfer.Run.local_command = lambda *_: [sys.executable, '-c', child]
with one_sentence_errors('transfer'):
    stop.listen()
    transfer.execute(transfer.Run('a/cls', 'none.py', folder, ()), folder, 1)
"""


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP', 'SIGKILL'])
def test_its_commands_end_with_it(tmp_path, name):
    job = subprocess.Popen(
        [sys.executable, '-c', CHAIN, tmp_path], stderr=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    written = tmp_path / 'child'
    while not (written.exists() and written.read_text()):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.1)
    job.send_signal(getattr(signal, name))
    said = job.communicate(timeout=30)[1]
    if name != 'SIGKILL':
        assert (job.returncode, said) == (143, f'transfer: ended by {name}\n')
    child = Path('/proc') / written.read_text()
    for _ in range(50):
        if not child.exists() or 'State:\tZ' in (child / 'status').read_text():
            return
        time.sleep(0.1)
    os.kill(int(child.name), signal.SIGKILL)
    raise AssertionError('the command is still there')


def test_half_a_folder_of_predictions_is_drawn_anew(tmp_path, monkeypatch):
    run = transfer.Run('a/cls/test', 'none.py', tmp_path, (), tmp_path / 'a.pth')
    left = tmp_path / '.predictions.tmp'
    (left / 'val').mkdir(parents=True)

    def draws(code):
        script = f'import os, sys; os.mkdir(sys.argv[4]); sys.exit({code})'
        (tmp_path / 'visualizations').mkdir(exist_ok=True)
        (tmp_path / 'visualizations' / 'predict.py').write_text(script)

    draws(1)
    with pytest.raises(RuntimeError, match='a/cls/test, predictions failed'):
        transfer.predict(run, tmp_path)
    assert not (tmp_path / 'predictions').exists()
    draws(0)
    transfer.predict(run, tmp_path)
    assert (tmp_path / 'predictions').is_dir() and not left.exists()


def test_mistakes(arguments):
    with pytest.raises(ValueError, match='a name of its own'):
        list(transfer.plan(arguments('a=x.pth', 'a=y.pth')))
    with pytest.raises(FileNotFoundError, match='no config'):
        list(transfer.plan(arguments('none.py')))
    with pytest.raises(ValueError, match='key=value'):
        list(transfer.plan(arguments(MINI, pretrain_options=['epochs'])))


def test_fashion_mnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (('train', 40), ('t10k', 10)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in ((f'{split}-images-idx3', images), (f'{split}-labels-idx1', labels)):
            header = b'\0\0\x08' + bytes([array.ndim]) + np.array(array.shape, '>i4').tobytes()
            packed = gzip.compress(header + array.tobytes())
            (tmp_path / f'{kind}-ubyte.gz').write_bytes(packed)
        arrays[split] = images
    tool = ROOT / 'tools' / 'dataset_converters' / 'fashion_mnist.py'

    def convert(*extra):
        command = [sys.executable, tool, tmp_path, tmp_path / 'out', *extra]
        return subprocess.run(command, capture_output=True, text=True)

    done = convert('--labelled', '2')
    assert done.returncode == 0, done.stderr
    out = tmp_path / 'out'
    assert len(list((out / 'unlabelled').glob('*.png'))) == 40
    assert len(list((out / 'train').rglob('*.png'))) == 20
    coat = np.asarray(Image.open(out / 'train' / 'coat' / '00014.png'))
    assert np.array_equal(coat, arrays['train'][14])
    bag = np.asarray(Image.open(out / 'val' / 'bag' / '00008.png'))
    assert np.array_equal(bag, arrays['t10k'][8])
    assert convert().returncode == 1  # there already
    assert 'exists' in convert().stderr and 'Traceback' not in convert().stderr
