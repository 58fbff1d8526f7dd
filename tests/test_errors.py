"""Whatever a user can cause ends in one sentence; whatever he cannot keeps its traceback."""

import ast
import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner

from adpe_mm import errors
from adpe_mm.explaining import explain
from adpe_mm.launch import one_sentence_errors, read_config
from adpe_mm.options import Option, merge_options

ROOT = Path(__file__).parents[1]
CLASSES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.UserError)
}
# Raised for their caller, who names the file or setting; the method for readers; and what comes
# before all else.
FOR_CALLERS = {
    'checkpoints/trusting.py', 'datasets/decoding.py', 'evaluation/gpu_check/runs.py',
    'models/selfsup/reference.py', 'version.py',
}  # fmt: skip


def raised(path: Path):
    """Class and message of what a file raises, as nodes."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if isinstance(name, ast.Name) and node.exc.args:
                yield name.id, node.exc.args[0]


def written(message: ast.expr) -> str:
    """The constant parts of a message."""
    parts = (n.value for n in ast.walk(message) if isinstance(n, ast.Constant))
    return ' '.join(part for part in parts if isinstance(part, str))


def test_a_mistake_of_a_user_has_a_class_of_ours():
    plain, sentences = [], []
    for path in sorted((ROOT / 'adpe_mm').rglob('*.py')):
        name = path.relative_to(ROOT / 'adpe_mm').as_posix()
        for kind, message in raised(path):
            if kind in CLASSES:
                sentences.append((name, written(message)))
            elif kind in vars(builtins) and kind not in ('NotImplementedError', 'AttributeError'):
                plain.append((name, kind, written(message)))
    assert not [entry for entry in plain if entry[0] not in FOR_CALLERS]
    assert len(sentences) > 100
    for name, sentence in sentences:
        ends = sentence.rstrip().removesuffix('...')
        assert not ends.endswith(('.', '!')), (name, sentence)
        assert '\n' not in ends.strip('\n '), (name, sentence)


def sentence_of(error) -> str:
    explained = explain(error)
    assert isinstance(explained, errors.UserError), error
    assert '\n' not in str(explained)
    return str(explained)


def error_of(function, *args, **kwargs) -> BaseException:
    with pytest.raises(Exception) as caught:
        function(*args, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    'error, said',
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), 'batch_size'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 'with_cp=True'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.'), 'memory ran out'),
        (RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly'), 'num_workers'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error.'), '--shm-size'),
        (
            RuntimeError('The server socket has failed to listen on any local network address. '
                         'port: 29500, useIpv6: false, code: -98, name: EADDRINUSE'),
            'the port 29500 is in use',
        ),
        (OSError(errno.ENOSPC, 'No space left on device'), 'the disk is full'),
        (OSError(errno.EACCES, 'Permission denied', '/root/x'), "'/root/x' is not allowed"),
        (OSError(errno.EROFS, 'Read-only file system', '/x'), 'read-only'),
    ],
)  # fmt: skip
def test_what_a_machine_lacks(error, said):
    assert said in sentence_of(error)


def test_settings_that_no_class_takes():
    vit = dict(type='adpe_mm.AdPEViT', arch='small', img_size=32, patch_size=16)
    error = error_of(MODELS.build, dict(vit, drop_paths=0.1))
    assert "gives 'drop_paths' to type='adpe_mm.AdPEViT'" in sentence_of(error)
    error = error_of(MODELS.build, dict(vit, type='adpe_mm.AdPEVit'))
    assert "type='adpe_mm.AdPEVit'" in sentence_of(error)
    assert 'needs' in sentence_of(error_of(MODELS.build, dict(type='adpe_mm.MAEPlus')))
    error = error_of(PARAM_SCHEDULERS.build, dict(type='Linear'))
    assert "type='Linear', and there is no such parameter scheduler" in sentence_of(error)
    loader = dict(dataset=dict(type='adpe_mm.FashionMNIST'), batch_sizes=2, sampler=None)
    error = error_of(Runner.build_dataloader, dict(loader, dataset=[1, 2]))
    assert "'batch_sizes'" in sentence_of(error)


def test_faults_of_the_code_are_not_explained():
    """Even of the same classes, with like words."""
    assert explain(error_of(lambda: {}['a'])) is None
    assert explain(error_of(lambda: (lambda a: a)(b=1))) is None
    assert explain(error_of(torch.ones(2, 3).matmul, torch.ones(2))) is None
    assert explain(RuntimeError('NCCL error: unhandled system error')) is None
    assert explain(OSError(errno.EBADF, 'Bad file descriptor')) is None

    @MODELS.register_module(name='adpe_test_faulty', force=True)
    class Faulty(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            torch.nn.Linear(width, 1, colour=True)

    assert explain(error_of(MODELS.build, dict(type='adpe_test_faulty', width=1))) is None


@pytest.mark.parametrize(
    'text, said',
    [
        ('model = dict(\n  a=1', 'line 1'),
        ("_base_ = 'nowhere.py'", 'nowhere.py'),
        ('model = nothing', "'nothing' is not defined"),
        ("custom_imports = dict(imports=['nowhere'])", 'custom modules'),
    ],
)
def test_broken_configs(tmp_path, text, said):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(errors.UserError, match=said) as error:
        read_config(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert error.value.__cause__ is not None


@pytest.mark.parametrize('key', ['a.5', 'a.x', 'b.c', 'a.0.b', 'optim_wraper.optimizer.lr'])
def test_overrides_that_lead_nowhere(key):
    cfg = Config(dict(a=[1, 2], b=3, optim_wrapper=dict(optimizer=dict(lr=1))))
    with pytest.raises(errors.UserError, match=f'--cfg-options {key}='):
        merge_options(cfg, {key: Option('1')})


def test_overrides_may_add_settings():
    cfg = Config(dict(val_dataloader=None, model=dict()))
    merge_options(cfg, dict.fromkeys(('test_dataloader.batch_size', 'compile', 'model.a.b'), 1))
    assert cfg.test_dataloader.batch_size == cfg.model.a.b == 1


def test_the_funnel(monkeypatch, capsys):
    def run(error, *words):
        monkeypatch.setattr(sys, 'argv', ['x.py', *words])
        with pytest.raises(BaseException) as caught, one_sentence_errors('x'):
            raise error
        return caught.value

    memory = torch.OutOfMemoryError('CUDA out of memory')
    assert str(run(memory).code).startswith('x: the GPU has not enough memory')
    assert run(memory, '--traceback') is memory
    assert run(errors.UserError('a: b')).code == 'x: a: b'
    fault = KeyError('of the code')
    assert run(fault) is fault


COMMANDS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'tools').rglob('*.py')
    if 'ArgumentParser' in path.read_text(encoding='utf-8')
)


def test_every_command_has_the_funnel():
    assert len(COMMANDS) > 20
    for name in COMMANDS:
        if name != 'tools/check_env.py':  # it finds out whether the package can be imported
            assert 'with one_sentence_errors(' in (ROOT / name).read_text(encoding='utf-8'), name


def test_help_names_the_flag():
    done = subprocess.run(
        [sys.executable, 'tools/analysis_tools/describe_checkpoint.py', '--help'],
        cwd=ROOT, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert done.returncode == 0 and '--traceback' in done.stdout


def test_a_lost_process_whatever_gloo_calls_it():
    for said in (
        '[pair.cc:534] Connection closed by peer [127.0.0.1]:19642',
        'Read error [127.0.0.1]:19642: Connection reset by peer. This is typically caused by',
        'Write error [127.0.0.1]: Broken pipe',
    ):
        error = RuntimeError(f'[/src/gloo/transport/tcp/pair.cc:545] {said}')
        assert sentence_of(error).startswith('another process of this run has ended')
