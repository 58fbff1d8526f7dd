"""Pretraining is carried to the three tasks, trained, tested, and described truthfully."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmpretrain.models.selfsup import MAEViT

from adpe_mm.checkpoints import backbone_config, decode_lookup, load_weights, read_checkpoint
from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config

ROOT = Path(__file__).parents[1]
CONFIGS = dict(
    cls='configs/cls/adpe-vit-mini_mini.py',
    seg='configs/seg/upernet_adpe-vit-mini_mini.py',
    det='configs/det/mask-rcnn_adpe-vit-mini_mini.py',
)
ARCH = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('mini') / 'mini'
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_mini.py'
    run_tool(sys.executable, tool, out, '--train', '8', '--val', '9')
    return out


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """Checkpoints of both kinds of positions, as pretraining writes them."""
    folder = tmp_path_factory.mktemp('pretrained')
    for position in ('ape', 'rpe'):
        config = tiny_config(position, 'coordinate', img_size=56)
        config['backbone'].update(arch=ARCH, patch_size=8)
        torch.manual_seed(0)
        model = MODELS.build(config)
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict()), folder / f'{position}.pth')
    return folder


def options(task, data, position, steps=1, init_cfg=None):
    """Overrides that make the config of a task tiny."""
    found = {
        'model.backbone.arch': ARCH,
        'model.backbone.position': position,
        'model.backbone.init_cfg': init_cfg,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'visualizer.vis_backends': [dict(type='LocalVisBackend')],
    }
    root = dict(cls='imagenet', seg='ade', det='coco')[task]
    for name in ('train', 'val', 'test'):
        found[f'{name}_dataloader.dataset.data_root'] = str(data / root)
    if task == 'cls':
        found['model.head.in_channels'] = 24
        found['train_cfg.max_epochs'] = 1
    else:
        found['train_cfg.max_iters'] = steps
        found['train_cfg.val_interval'] = 1000
        found['default_hooks.checkpoint.interval'] = steps
    if task == 'seg':
        found['model.neck.embed_dim'] = 24
        found['model.backbone.out_indices'] = (0, 1, 2, 3)
        found['model.decode_head.in_channels'] = [24] * 4
        found['model.auxiliary_head.in_channels'] = 24
    if task == 'det':
        found['model.neck.in_channels'] = 24
        found['val_evaluator.ann_file'] = str(data / 'coco/annotations/instances_val2017.json')
        found['test_evaluator.ann_file'] = found['val_evaluator.ann_file']
    return found


def make_runner(task, data, position, work_dir, init_cfg=None, **more):
    cfg = Config.fromfile(ROOT / CONFIGS[task])
    cfg.merge_from_dict(options(task, data, position, init_cfg=init_cfg))
    cfg.merge_from_dict(more)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{task}_{work_dir.name}'
    return RUNNERS.build(cfg)


@pytest.mark.parametrize('position', ['ape', 'rpe'])
@pytest.mark.parametrize('task', ['cls', 'seg', 'det'])
@pytest.mark.parametrize('how', ['init_cfg', 'load_from'])
def test_one_step_from_pretraining(task, position, how, data, pretrained, tmp_path):
    path = str(pretrained / f'{position}.pth')
    given = dict(load_from=path)
    if how == 'init_cfg':
        given = dict(init_cfg=dict(type='Pretrained', checkpoint=path))
    runner = make_runner(task, data, position, tmp_path / 'run', **given)
    steps = []

    def look(step):
        steps.append({n: p.detach().clone() for n, p in runner.model.named_parameters()})
        return step

    runner.call_hook = watched(runner.call_hook, look)
    runner.train()
    start, end = steps[0], {n: p.detach() for n, p in runner.model.named_parameters()}
    expected = torch.load(path, weights_only=True)['state_dict']
    arrived = 0
    for name, value in start.items():
        if name.startswith('backbone.') and name in expected and 'pos_embed' not in name:
            assert torch.equal(value, expected[name]), name
            arrived += 1
    assert arrived >= 4 * 12
    unmoved = [n for n in start if torch.equal(start[n], end[n])]
    # lr is 0 in the first step of the warm-up for none; frozen is nothing. What is left unmoved
    # must have no gradient: the pyramid's level that no box of the tiny batch falls into.
    assert not [n for n in unmoved if n.startswith('backbone.layers')], unmoved
    hub = runner.message_hub.get_info('pretraining')
    assert (hub['method'], hub['variant']) == ('AdPE', f'{position.upper()} coordinate')
    assert hub['checkpoint'] == path and len(hub['sha256']) == 64


def test_a_relative_position_bias_learns_in_a_task(data, pretrained, tmp_path):
    """As in mmsegmentation's MAE: it begins at 0, moves and is kept."""
    init_cfg = dict(type='Pretrained', checkpoint=str(pretrained / 'ape.pth'))
    bias = {'model.backbone.rel_pos_bias': True}
    steps = {'train_cfg.max_iters': 3, 'default_hooks.checkpoint.interval': 3}
    runner = make_runner('seg', data, 'ape', tmp_path / 'run', init_cfg=init_cfg, **bias, **steps)
    tables = [layer.attn.rel_pos_bias.table for layer in runner.model.backbone.layers]
    assert not any(table.any() for table in tables)
    runner.train()
    assert all(table.any() for table in tables)
    path = (tmp_path / 'run' / 'last_checkpoint').read_text()
    assert backbone_config(path)['rel_pos_bias'] is True
    again = make_runner('seg', data, 'ape', tmp_path / 'again', load_from=path, **bias)
    again.load_checkpoint(path)
    loaded = again.model.backbone.layers[0].attn.rel_pos_bias.table
    assert torch.equal(loaded, tables[0])


@pytest.mark.slow
@pytest.mark.parametrize('position', ['ape', 'rpe'])
def test_pretraining_goes_on_from_mae(position, data, tmp_path):
    """By the converter and a config, with both kinds of positions."""
    mae = MAEViT(arch=ARCH, img_size=64, patch_size=8)
    mae.init_weights()
    weights = {f'backbone.{name}': value for name, value in mae.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'mae.pth')
    converter, path = ROOT / 'tools/model_converters/mae_to_adpe.py', tmp_path / 'ours.pth'
    lookup = ['--rpe-lookup', 'interpolate'] if position == 'rpe' else []
    run_tool(sys.executable, converter, tmp_path / 'mae.pth', path, '--num-heads', '3', *lookup)
    cfg = Config.fromfile(ROOT / 'configs/pretrain/adpe_vit-mini_from-mae_mini.py')
    cfg.merge_from_dict(
        {
            'model.backbone.arch': ARCH,
            'model.backbone.position': position,
            'model.backbone.init_cfg.checkpoint': str(path),
            'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.data_root': str(data / 'imagenet'),
            'train_cfg.max_epochs': 1,
            'visualizer.vis_backends': [dict(type='LocalVisBackend')],
            'work_dir': str(tmp_path / 'run'),
            'experiment_name': f'from_mae_{tmp_path.name}',
        }
    )
    runner = RUNNERS.build(cfg)
    steps = []

    def look(step):
        steps.append({n: v.detach().clone() for n, v in runner.model.state_dict().items()})

    runner.call_hook = watched(runner.call_hook, look)
    runner.train()
    (start,) = steps
    expected = load_weights(path)
    expected.pop('backbone.pos_embed')  # of another grid; both are the fixed sine-cosine
    assert len(expected) >= 4 * 12
    assert all(torch.equal(start[name], value) for name, value in expected.items())
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 4 and torch.tensor(losses).isfinite().all()
    moved = {n for n, v in runner.model.state_dict().items() if not torch.equal(v, start[n])}
    assert {n for n in expected if n.endswith('qkv.weight')} <= moved
    saved = read_checkpoint((tmp_path / 'run' / 'last_checkpoint').read_text())
    assert saved['meta']['adpe_mm']['variant'] == f'{position.upper()} coordinate'


def watched(call_hook, look):
    def call(name, **kwargs):
        call_hook(name, **kwargs)
        if name == 'before_train':
            look(0)

    return call


def test_only_a_whole_checkpoint_is_loaded(data, pretrained, tmp_path):
    """One of a task must fit entirely; one of pretraining must fit the backbone."""
    runner = make_runner('seg', data, 'rpe', tmp_path / 'a')
    torch.save(dict(state_dict=runner.model.state_dict()), tmp_path / 'whole.pth')
    weights = runner.model.state_dict()
    del weights['decode_head.conv_seg.weight']
    torch.save(dict(state_dict=weights), tmp_path / 'part.pth')
    make_runner('seg', data, 'rpe', tmp_path / 'b', load_from=str(tmp_path / 'whole.pth')).train()
    for name, sentence in [
        (tmp_path / 'part.pth', '1 missing: decode_head.conv_seg.weight'),
        (pretrained / 'ape.pth', 'missing: layers.0.attn.rpe.table'),
    ]:
        with pytest.raises(ValueError, match=sentence):
            make_runner('seg', data, 'rpe', tmp_path / 'c', load_from=str(name)).train()


@pytest.mark.parametrize('how', ['init_cfg', 'load_from'])
def test_an_average_of_the_weights_has_their_look_up(how, data, tmp_path):
    """It is made before they are loaded, and is what the checkpoint's state dict holds."""
    config = tiny_config('rpe', None, img_size=56)  # rounds; from scratch it would interpolate
    config['backbone'].update(arch=ARCH, patch_size=8)
    source = MODELS.build(config)
    source.init_weights()
    path = str(tmp_path / 'pretrained.pth')
    torch.save(dict(state_dict=source.state_dict()), path)
    given = dict(load_from=path)
    if how == 'init_cfg':
        given = dict(init_cfg=dict(type='Pretrained', checkpoint=path))
    average = {'default_hooks.ema': dict(type='adpe_mm.EMAHook', momentum=0.5)}
    runner = make_runner('cls', data, 'rpe', tmp_path / 'run', **average, **given)
    runner.train()
    saved = read_checkpoint((tmp_path / 'run' / 'last_checkpoint').read_text())
    described = saved['meta']['adpe_mm']
    assert (described['task'], described['rpe_lookup']) == ('classification', 'bucket')
    assert (described['method'], described['variant']) == ('MAE+', 'RPE')
    for weights, prefix in ((saved['state_dict'], ''), (saved['ema_state_dict'], 'module.')):
        for i in range(ARCH['num_layers']):
            name = f'{prefix}backbone.layers.{i}.attn.rpe._extra_state'
            assert decode_lookup(weights[name]) == 'bucket'
    resumed = make_runner(
        'cls', data, 'rpe', tmp_path / 'run', resume=True, **average, **{'train_cfg.max_epochs': 2}
    )
    resumed.train()
    assert resumed.epoch == 2 and resumed.model.backbone.layers[0].attn.rpe.lookup == 'bucket'


@pytest.mark.parametrize('rate, layers', [(0.65, 12), (0.75, 24)])
def test_layer_decay_is_the_published_rule(rate, layers):
    """lr * rate ** (depth_max - depth), parameter by parameter; MAE's lr_decay.py as the rule."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/seg/upernet_adpe-vit-b_160k_ade20k-512x512.py')
    cfg.model.backbone.update(arch=dict(ARCH, num_layers=layers), out_indices=(0, 1, 2, 3))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    paramwise = dict(layer_decay_rate=rate, no_decay=['pos_embed', 'cls_token'])
    settings = dict(lr=2e-4, weight_decay=0.05)
    groups = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', **settings)), paramwise
    ).param_groups(model, settings)
    names = {id(param): name for name, param in model.named_parameters()}
    seen = {}
    for group in groups:
        for param in group['params']:
            seen[names[id(param)]] = group['lr'], group.get('weight_decay', 0.05)
    assert len(seen) == len(names)
    for name, param in model.named_parameters():
        block = re.match(r'backbone\.layers\.(\d+)\.', name)
        if block:
            depth = int(block[1]) + 1
        elif re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name):
            depth = 0
        else:
            depth = layers + 1
        lr, decay = seen[name]
        assert lr == pytest.approx(2e-4 * rate ** (layers + 1 - depth))
        plain = param.ndim == 1 or name.endswith(('pos_embed', 'cls_token'))
        assert decay == (0 if plain else 0.05), name
    assert seen['backbone.layers.3.attn.rpe.table'][1] == 0.05
    assert len(groups) == 2 * (layers + 2)  # with and without weight decay, merged


def run_tool(*arguments):
    with socket.socket() as free:
        free.bind(('', 0))
        port = str(free.getsockname()[1])
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PORT=port)
    env['PYTHON'] = sys.executable
    done = subprocess.run(
        list(map(str, arguments)), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('task', ['cls', 'seg', 'det'])
def test_two_processes_train_and_measure_the_same_as_one(task, data, pretrained, tmp_path):
    init_cfg = dict(type='Pretrained', checkpoint=str(pretrained / 'rpe.pth'))
    settings = options(task, data, 'rpe', steps=2, init_cfg=init_cfg)
    overrides = ['--cfg-options']
    for key, value in settings.items():
        if isinstance(value, dict):
            overrides += [f'{key}.{name}={part}' for name, part in value.items()]
        elif key.endswith('in_channels') and isinstance(value, list):
            overrides.append(f'{key}=[{",".join(map(str, value))}]')
        elif not isinstance(value, list):
            overrides.append(f'{key}={value}')
    config, tools = CONFIGS[task], ROOT / 'tools'
    work = tmp_path / 'run'
    run_tool(tools / 'dist_train.sh', config, 2, '--work-dir', work, *overrides)
    checkpoint = Path((work / 'last_checkpoint').read_text())
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, tools / 'test.py', config, checkpoint]
        if processes == 2:
            command = [tools / 'dist_test.sh', config, checkpoint, 2]
        run_tool(*command, '--work-dir', out, *overrides)
        results.append(json.loads((out / f'test_{checkpoint.stem}.json').read_text()))
    one, two = results
    assert one['metrics'] and one['metrics'] == pytest.approx(two['metrics'], nan_ok=True)
    assert one['per_class'] == two['per_class'] or task == 'cls'
    assert one['task'] == task and one['dataset'] == 'mini scenes'
    assert one['protocol'] == 'fine-tuning' and one['position'] == 'RPE'
    assert one['head'] == dict(cls='linear', seg='UperNet', det='Mask R-CNN')[task]
    assert one['pretraining']['variant'] == 'RPE coordinate'
    assert one['backbone'] == 'ViT 24 x 4'
    assert len(one['checkpoint_sha256']) == 64 and one['seed'] == 0
