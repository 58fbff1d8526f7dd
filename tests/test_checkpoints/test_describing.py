"""A checkpoint says what it is: what was put into it, whatever file it comes from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from adpe_mm.checkpoints import (
    add_description,
    backbone_config,
    describe,
    format_description,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from adpe_mm.models import AdPEViT
from adpe_mm.registry import MODELS
from tests.helpers import VARIANTS, tiny_config, tiny_model
from tests.test_engine.toy import ADPE, draw, make_runner

ROOT = Path(__file__).parents[2]
FORMATS = ('.pth', '.safetensors')


def run(tool, *arguments):
    command = [sys.executable, ROOT / 'tools' / tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint as pretraining writes it."""
    folder = tmp_path_factory.mktemp('trained')
    make_runner(folder / 'run', draw(folder / 'images'), model=ADPE).train()
    return folder / 'run' / 'iter_10.pth'


@pytest.mark.parametrize('ending', FORMATS)
def test_pretraining_says_what_it_was(trained, tmp_path, ending):
    path = trained
    if ending != '.pth':
        path = tmp_path / f'a{ending}'
        write_checkpoint(read_checkpoint(trained), path)
    assert describe(path) == dict(
        task='pretraining',
        method='AdPE',
        variant='RPE coordinate',
        pretraining=None,
        arch=ADPE['backbone']['arch'],
        embed_dims=24,
        num_layers=2,
        num_heads=3,
        patch_size=4,
        in_channels=3,
        img_size=[16, 24],
        position='rpe',
        rpe_lookup='interpolate',
        epochs=1,
        iterations=10,
        version='0.1.0',
    )


def test_an_older_checkpoint_is_described_by_its_config_and_arrays(trained):
    checkpoint = torch.load(trained, weights_only=False)
    new = checkpoint['meta'].pop('adpe_mm')
    for name in [name for name in checkpoint['state_dict'] if name.endswith('_extra_state')]:
        del checkpoint['state_dict'][name]
    assert describe(checkpoint) | dict(rpe_lookup='interpolate', version='0.1.0') == new


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_every_variant_by_its_arrays_alone(position, mode):
    found = describe(tiny_model(position, mode, img_size=16).state_dict())
    assert found['method'] == ('AdPE' if mode else 'MAE+')
    assert found['variant'] == ' '.join(filter(None, (position.upper(), mode)))
    assert found['num_heads'] == (3 if position == 'rpe' else None)
    lookup = 'interpolate' if mode == 'coordinate' else 'bucket'
    assert found['rpe_lookup'] == (lookup if position == 'rpe' else None)
    assert (found['img_size'], found['patch_size'], found['epochs']) == (16, 4, None)


@pytest.mark.parametrize('task', ['cls/adpe-vit-mini_mini', 'det/mask-rcnn_adpe-vit-mini_mini'])
def test_a_task_says_what_it_began_from(task, tmp_path):
    cfg = Config.fromfile(ROOT / f'configs/{task}.py')
    backbone = MODELS.build(dict(cfg.model.backbone, init_cfg=None))
    head = dict(cls='head.fc.weight', det='roi_head.x.weight')[task[:3]]
    weights = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    origin = dict(method='MAE+', variant='RPE', checkpoint='mae.pth', sha256='0' * 64)
    checkpoint = dict(
        state_dict={**weights, head: torch.zeros(1)},
        meta=dict(cfg=cfg.pretty_text, epoch=3, iter=90),
        message_hub=dict(runtime_info=dict(pretraining=origin)),
    )
    for path in (tmp_path / f'a{ending}' for ending in FORMATS):
        write_checkpoint(add_description(dict(checkpoint), '0.1.0'), path)
        found = describe(path)
        assert found['task'] == dict(cls='classification', det='detection')[task[:3]]
        assert found['pretraining'] == origin and found['method'] == 'MAE+'
        assert found['img_size'] == cfg.model.backbone.img_size
        assert (found['num_heads'], found['iterations']) == (4, 90)
        # What get_model needs: the same network, its windows and sizes included.
        config = backbone_config(read_checkpoint(path))
        again = MODELS.build(dict(config, out_type='featmap')).eval()
        again.load_pretrained(load_weights(path))
        images = torch.randn(1, 3, 64, 64)
        expected = MODELS.build(dict(cfg.model.backbone, init_cfg=None, out_type='featmap'))
        expected.load_state_dict(backbone.state_dict(), strict=False)
        expected.eval()
        torch.testing.assert_close(again(images)[-1], expected(images)[-1])


def test_named_architecture(tmp_path):
    """The name stands in the config only, and tells the heads."""
    settings = tiny_config('ape', None, img_size=32)
    settings['backbone'].update(arch='ti', patch_size=16)
    model = MODELS.build(settings)
    cfg = Config(dict(model=settings)).pretty_text
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(cfg=cfg, epoch=1))
    text = format_description(describe(checkpoint))
    assert 'architecture ViT-Ti: 192 wide, 12 blocks\n' in text
    config = backbone_config(checkpoint)
    config.pop('type')
    assert AdPEViT(**config).num_heads == 3


def test_heads_that_nothing_tells_are_those_of_the_named_sizes():
    settings = dict(img_size=32, patch_size=16)
    for arch, heads in (('ti', 3), ('s', 6)):
        weights = AdPEViT(arch, **settings).state_dict()
        config = backbone_config({f'backbone.{name}': value for name, value in weights.items()})
        assert config['arch']['num_heads'] is None
        config.pop('type')
        assert AdPEViT(**config).num_heads == heads
    config = backbone_config(tiny_model('ape', None, img_size=16).state_dict())
    config.pop('type')
    with pytest.raises(ValueError, match='nothing tells the number of heads .* state arch'):
        AdPEViT(**config)


@pytest.mark.parametrize('ending', FORMATS)
def test_the_command_and_the_converters(ending, tmp_path):
    with np.load(ROOT / 'tests/data/reference/rpe_embedding.npz') as file:
        arrays = {k[6:]: torch.from_numpy(file[k]) for k in file.files if k.startswith('param/')}
    torch.save(dict(model=arrays), tmp_path / 'official.pth')
    ours, again = tmp_path / f'ours{ending}', tmp_path / 'again.pth'
    done = run('model_converters/official_to_adpe.py', tmp_path / 'official.pth', ours)
    assert done.returncode == 0, done.stderr
    assert run('model_converters/publish_model.py', ours, again).returncode == 0
    done = run('analysis_tools/describe_checkpoint.py', ours, again)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('method       AdPE, RPE embedding\n') == 2
    assert done.stdout.count('look-up      bucket\n') == 2
    assert done.stdout.count('adpe_mm      0.1.0\n') == 2
    assert str(ours) in done.stdout and str(again) in done.stdout


def test_exports_say_what_they_came_from(tmp_path):
    model = tiny_model('ape', 'coordinate', img_size=16)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'ours.pth')
    for path in (tmp_path / f'vit{ending}' for ending in FORMATS):
        done = run('model_converters/adpe_to_mmpretrain.py', tmp_path / 'ours.pth', path)
        assert done.returncode == 0, done.stderr
        assert describe(path)['variant'] == 'APE coordinate'  # the adversary itself is left behind
        done = run('model_converters/adpe_to_timm.py', tmp_path / 'ours.pth', path)
        assert done.returncode == 0, done.stderr
        assert 'blocks.0.norm1.weight' in load_weights(path)


def test_what_is_not_ours_is_said_in_one_sentence(tmp_path):
    torch.save(dict(state_dict={'blocks.0.norm1.weight': torch.zeros(3)}), tmp_path / 'timm.pth')
    with pytest.raises(ValueError, match='holds no network with a backbone of adpe_mm'):
        describe(tmp_path / 'timm.pth')
    done = run('analysis_tools/describe_checkpoint.py', tmp_path / 'none.pth')
    assert done.returncode == 1 and 'there is no checkpoint' in done.stderr
    assert 'Traceback' not in done.stderr
