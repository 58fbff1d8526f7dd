"""Weights go from .pth to .safetensors and back, bit for bit."""

import json

import pytest
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from adpe_mm.checkpoints import (
    add_description,
    describe,
    find_resumable,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from adpe_mm.evaluation.reconstruction import load_model
from adpe_mm.models import AdPEViT
from tests.helpers import VARIANTS, tiny_config, tiny_model
from tests.test_engine.toy import ADPE, assert_same, draw, make_runner


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_there_and_back(position, mode, tmp_path):
    weights = dict(tiny_model(position, mode).state_dict())
    weights['backbone.turned'] = torch.randn(3, 5, dtype=torch.float16).T  # not contiguous
    weights['backbone.shared'] = weights['backbone.turned']
    source = add_description(
        dict(state_dict=weights, meta=dict(epoch=3, iter=7, hook=print)), '0.1.0'
    )
    write_checkpoint(dict(source, meta=dict(source['meta'], hook=None)), tmp_path / 'a.pth')
    write_checkpoint(source, tmp_path / 'b.safetensors')  # what is no plain data is left out
    write_checkpoint(read_checkpoint(tmp_path / 'b.safetensors'), tmp_path / 'c.pth')
    for path in (tmp_path / 'b.safetensors', tmp_path / 'c.pth'):
        assert_same(dict(load_weights(path)), dict(load_weights(tmp_path / 'a.pth')))
        assert describe(path) == describe(tmp_path / 'a.pth')


def test_others_can_read_it(tmp_path):
    model = tiny_model()
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(epoch=3))
    write_checkpoint(add_description(checkpoint, '0.1.0'), tmp_path / 'a.safetensors')
    assert_same(safetensors.torch.load_file(tmp_path / 'a.safetensors'), dict(model.state_dict()))
    with safetensors.safe_open(tmp_path / 'a.safetensors', 'pt') as file:
        meta = json.loads(file.metadata()['meta'])
    assert meta['adpe_mm']['variant'] == 'RPE coordinate' and meta['adpe_mm']['epochs'] == 3


def test_a_file_of_others_is_read(tmp_path):
    weights = tiny_model('ape', None, img_size=16).backbone.state_dict()
    safetensors.torch.save_file(weights, tmp_path / 'plain.safetensors')
    backbone = tiny_config()['backbone']
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.safetensors'))
    model = AdPEViT(backbone['arch'], img_size=16, patch_size=4, init_cfg=init_cfg)
    model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / 'a.safetensors'
    write_checkpoint(tiny_model().state_dict(), path)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:100], b'', b'no tensors at all'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'a\.safetensors. is damaged') as caught:
            read_checkpoint(path)
        assert '\n' not in str(caught.value)
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        read_checkpoint(tmp_path / 'none.safetensors')


def test_runs_begin_from_it_but_are_not_resumed(tmp_path):
    images = draw(tmp_path / 'images')
    path = tmp_path / 'a.safetensors'
    source = tiny_model(norm='linf', eps=1e-3)
    write_checkpoint(dict(state_dict=source.state_dict()), path)
    from_pth = tmp_path / 'a.pth'
    write_checkpoint(dict(state_dict=source.state_dict()), from_pth)
    losses = []
    for number, given in enumerate((path, from_pth)):
        hooks = [dict(type='adpe_mm.CheckpointFitHook'), dict(type='adpe_mm.IterationSeedHook')]
        options = dict(load_from=str(given), custom_hooks=hooks)
        runner = make_runner(tmp_path / f'run{number}', images, model=ADPE, options=options)
        runner.train()
        losses.append(runner.record.losses)
    assert losses[0] == losses[1]
    sentence = "holds weights only, and resuming needs the optimiser's state"
    with pytest.raises(ValueError, match=sentence):
        find_resumable(tmp_path, str(path))
    with pytest.raises(ValueError, match=sentence):
        options = dict(load_from=str(path), resume=True)
        make_runner(tmp_path / 'c', images, model=ADPE, options=options).train()


def test_mmengine_reads_it_by_itself(tmp_path):
    """As `init_cfg` of any module does."""
    source, other = tiny_model(), tiny_model()
    write_checkpoint(dict(state_dict=source.state_dict()), tmp_path / 'a.safetensors')
    load_checkpoint(other, str(tmp_path / 'a.safetensors'), strict=True)
    assert_same(dict(other.state_dict()), dict(source.state_dict()))


def test_reconstruction_reads_it(tmp_path):
    source = tiny_model()
    write_checkpoint(dict(state_dict=source.state_dict()), tmp_path / 'a.safetensors')
    model = load_model(Config(dict(model=tiny_config())), str(tmp_path / 'a.safetensors'))
    assert_same(dict(model.state_dict()), dict(source.state_dict()))
