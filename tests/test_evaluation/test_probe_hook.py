"""Training is the same, bit for bit, with and without the probes; and what they leave behind."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adpe_mm.errors import MissingFile, UserError
from adpe_mm.evaluation.curves import plot_probes, read_probes
from adpe_mm.evaluation.probes import ProbeHook, Prober, attentive, hook, read_encoder
from adpe_mm.evaluation.report import make_report
from tests.helpers import tiny_config
from tests.test_engine.toy import (
    ADPE,
    Stopped,
    assert_same,
    draw,
    final_state,
    make_runner,
    stop,
)

EPOCHS, ITERATIONS = 2, 5
# Without the seeds of each iteration, so that what a probe draws would be missed later.
UNSEEDED = {
    'custom_hooks': [dict(type='adpe_mm.AdversaryProjectionHook')],
    'default_hooks.iteration_seed': None,
}
PRECISIONS = {
    'float32': {},
    'bfloat16': {'optim_wrapper.type': 'adpe_mm.AmpOptimWrapper'},
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(attentive, 'STEPS', 40)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(scope='module')
def labelled(tmp_path_factory):
    """Three classes, of which one image cannot be read."""
    folder = tmp_path_factory.mktemp('labelled')
    for name in 'abc':
        draw(folder / name, 10, broken=(5,) if name == 'b' else ())
    return folder


def probing(labelled, **options) -> dict:
    options = dict(dict(interval=1), **options)
    return {'default_hooks.probe': dict(type='adpe_mm.ProbeHook', data=str(labelled), **options)}


def train(work_dir, images, options, model=ADPE):
    """A run: all that it leaves, and what the generators give after it."""
    torch.manual_seed(1)
    np.random.seed(1)
    runner = make_runner(work_dir, images, model=model, options=options)
    runner.train()
    modes = [module.training for module in runner.model.modules()]
    draws = torch.rand(3).tolist(), np.random.rand(3).tolist()
    return dict(final_state(runner), losses=runner.record.losses, modes=modes, draws=draws), runner


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('model', ['adpe', 'plain'])
def test_training_is_the_same_with_and_without(tmp_path, images, labelled, precision, model):
    config = ADPE if model == 'adpe' else tiny_config('ape', None)
    options = {**UNSEEDED, **PRECISIONS[precision]}
    without, _ = train(tmp_path / 'without', images, options, config)
    with_probes, runner = train(tmp_path / 'with', images, {**options, **probing(labelled)}, config)
    assert len(records(runner)) == 1 + EPOCHS
    assert_same(with_probes, without)


def test_without_care_it_would_not_be(tmp_path, images, labelled, monkeypatch):
    """So the test above can fail."""
    without, _ = train(tmp_path / 'without', images, UNSEEDED)
    monkeypatch.setattr(hook, 'undisturbed', nullcontext)
    disturbed, _ = train(tmp_path / 'with', images, {**UNSEEDED, **probing(labelled)})
    assert disturbed['losses'] != without['losses']


def records(runner) -> list[dict]:
    lines = Path(runner.log_dir, 'probes.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_found_is_what_the_command_finds_and_is_drawn(tmp_path, images, labelled):
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    options = {
        **probing(labelled),
        'visualizer': dict(type='Visualizer', vis_backends=backends),
        'log_level': 'INFO',
        'default_hooks.checkpoint.by_epoch': True,
    }
    runner = make_runner(tmp_path / 'run', images, model=ADPE, options=options)
    runner.train()
    found = records(runner)
    assert [(r['epoch'], r['iter']) for r in found] == [(0, 0), (1, ITERATIONS), (2, 10)]
    for epoch in (1, 2):  # the checkpoint of the same moment, read as any other
        expected = Prober(labelled)(read_encoder(tmp_path / 'run' / f'epoch_{epoch}.pth'))
        for name, value in expected.items():
            assert found[epoch][name] == pytest.approx(value, rel=1e-4), name
    assert found[0]['num_train'] == 24 and found[0]['num_val'] == 6
    assert found[0]['size'] == [16, 24] and found[0]['num_classes'] == 3

    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    lines = [line for line in log.splitlines() if 'probe after' in line]
    assert len(lines) == 3 and 'epoch 2: k-NN' in lines[2]
    for record, line in zip(found[1:], lines[1:], strict=True):
        assert f'probe: {record["seconds"]:.1f} s, ' in line
        assert f'{100 * record["seconds"] / record["trained"]:.1f} % of training' in line
    assert log.count('b/05.png: no image') == 1  # at the first probe, which reads them

    board = EventAccumulator(str(Path(runner.log_dir, 'vis_data'))).Reload()
    assert [(e.step, e.value) for e in board.Scalars('probe/knn')] == [
        (r['iter'], pytest.approx(r['knn'])) for r in found
    ]
    blocks = [board.Scalars(f'probe/attention_distance/block_{i:02}')[-1].value for i in (0, 1)]
    assert blocks == pytest.approx(found[-1]['attention_distance'])

    scalars = read_probes(tmp_path / 'run')
    assert scalars['probe/linear'].tolist() == [[r['epoch'], r['linear']] for r in found]
    axes = plot_probes(scalars).axes
    assert [len(ax.lines) for ax in axes] == [3, 1, 2, 2]
    assert axes[0].lines[2].get_ydata().tolist() == [r['attentive'] for r in found]
    assert 'run: frozen features' in make_report(tmp_path, 'title', [])


def test_the_default_interval_keeps_the_cost_below_five_percent(
    tmp_path, images, labelled, monkeypatch
):
    """With a clock of which a training epoch takes 100 s and a probe 7."""
    now = [0.0]
    monkeypatch.setattr(hook.time, 'monotonic', lambda: now[0])
    original = Prober.__call__

    def probe(self, encoder):
        now[0] += 7
        return original(self, encoder)

    monkeypatch.setattr(Prober, '__call__', probe)
    after_epoch = ProbeHook.after_train_epoch

    def after(self, runner):
        now[0] += 100
        after_epoch(self, runner)

    monkeypatch.setattr(ProbeHook, 'after_train_epoch', after)
    options = {**probing(labelled, interval=None, probes=['knn']), 'train_cfg.max_epochs': 7}
    runner = make_runner(tmp_path / 'run', images, model=ADPE, options=options)
    runner.train()
    found = records(runner)
    assert [r['epoch'] for r in found] == [0, 2, 4, 6, 7]  # the last one in any case
    assert all(r['seconds'] <= 0.05 * r['trained'] for r in found[1:-1])


def test_a_resumed_run_goes_on(tmp_path, images, labelled):
    options = {**probing(labelled, probes=['knn']), 'default_hooks.checkpoint.by_epoch': True}
    first = make_runner(tmp_path / 'run', images, {7: stop}, ADPE, options)
    with pytest.raises(Stopped):
        first.train()
    # Now, as two runs that begin in the same second share a folder.
    assert [r['epoch'] for r in records(first)] == [0, 1]
    second = make_runner(tmp_path / 'run', images, model=ADPE, options={**options, 'resume': True})
    second.train()
    assert records(second)[-1]['epoch'] == 2
    assert read_probes(tmp_path / 'run')['probe/knn'][:, 0].tolist() == [0, 1, 2]


def two_processes(rank, store, folder, images, labelled, results):
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.set_num_threads(1)
    states = {}
    for name, options in (('without', {}), ('with', probing(labelled))):
        options = {**UNSEEDED, **options, 'launcher': 'pytorch', 'train_dataloader.batch_size': 2}
        states[name], runner = train(Path(folder, name), images, options)
    assert_same(states['with'], states['without'])
    results[rank] = records(runner) if rank == 0 else []
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_probe_together(tmp_path, images, labelled):
    """Training is the same, and they find what one process finds of the same weights."""
    with mp.Manager() as manager:
        results = manager.dict()
        arguments = str(tmp_path / 'store'), str(tmp_path), images, labelled, results
        mp.spawn(two_processes, arguments, nprocs=2)
        found = results[0]
    assert [r['epoch'] for r in found] == [0, 1, 2]
    checkpoint = tmp_path / 'with' / 'iter_10.pth'
    expected = Prober(labelled)(read_encoder(checkpoint))
    for name, value in expected.items():
        if name != 'attentive':
            assert found[-1][name] == pytest.approx(value, rel=1e-4), name
    # Rounding may decide of one image or two.
    assert found[-1]['attentive'] == pytest.approx(expected['attentive'], abs=34)


def test_mmpretrains_mae_is_probed_too(tmp_path, images, labelled):
    model = dict(
        type='MAE',
        backbone=dict(
            type='MAEViT',
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
            img_size=16,
            patch_size=4,
        ),
        neck=dict(
            type='MAEPretrainDecoder', num_patches=16, patch_size=4, embed_dim=24,
            decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2,
        ),
        head=dict(
            type='MAEPretrainHead', patch_size=4,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
    )  # fmt: skip
    options = {
        **probing(labelled),
        'train_dataloader.dataset.pipeline': [
            dict(type='adpe_mm.MultiCrop', num_crops=2, size=16), dict(type='adpe_mm.PackCrops')
        ],
        'custom_hooks': [],
    }  # fmt: skip
    runner = make_runner(tmp_path / 'run', images, model=model, options=options)
    runner.train()
    encoder = hook.copy_encoder(runner.model, runner.cfg.model)
    pixels = torch.randn(2, 3, 16, 16)
    runner.model.backbone.eval()
    with torch.no_grad():
        tokens, *_ = runner.model.backbone(pixels, mask=None)
    torch.testing.assert_close(
        encoder(pixels)[0].flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-5, rtol=1e-4
    )
    assert len(records(runner)) == 3


def test_mistakes_are_said_at_the_start(tmp_path, images, labelled):
    for options, kind, sentence in [
        (probing(tmp_path / 'none'), MissingFile, 'no folder or list of labelled images'),
        (probing(labelled, probes=['svm']), UserError, "no probe 'svm'"),
        (probing(labelled, max_val=0), UserError, 'at least 1'),
    ]:
        with pytest.raises(kind, match=sentence):
            make_runner(tmp_path / 'run', images, model=ADPE, options=options).train()
    for options, sentence in [(dict(interval=0), 'interval'), (dict(max_cost=2), 'max_cost')]:
        with pytest.raises(UserError, match=sentence):
            ProbeHook(str(labelled), **options)
    with pytest.raises(UserError, match='whose backbone is an AdPEViT'):
        make_runner(tmp_path / 'noisy', images, options=probing(labelled)).train()


def test_a_probe_that_a_run_ended_in_is_made_up_for(tmp_path, images, labelled, monkeypatch):
    probed = ProbeHook._probe
    options = {**probing(labelled), 'default_hooks.checkpoint.by_epoch': True}

    def interrupted(self, runner, epoch):
        return stop() if epoch == EPOCHS else probed(self, runner, epoch)

    monkeypatch.setattr(ProbeHook, '_probe', interrupted)
    with pytest.raises(Stopped):
        train(tmp_path, images, options)
    monkeypatch.undo()
    for again in ([EPOCHS], []):
        _, runner = train(tmp_path, images, dict(options, resume=True))
        file = Path(runner.log_dir, 'probes.jsonl')
        assert ([record['epoch'] for record in records(runner)] if file.exists() else []) == again
