"""Weights keep the look-up of relative positions that they were trained with, and insist on it."""

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmpretrain.models import VisionTransformer

from adpe_mm.checkpoints import find_weights, load_weights, read_checkpoint, read_config
from adpe_mm.models import AdPEViT
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config, tiny_model

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
LOOKUP = 'backbone.layers.0.attn.rpe._extra_state'


def pretrained(lookup, mode=None):
    config = tiny_config('rpe', mode, img_size=16)
    config['backbone'].update(rpe_lookup=lookup)
    model = MODELS.build(config)
    model.init_weights()
    for layer in model.backbone.layers:
        torch.nn.init.normal_(layer.attn.rpe.table)
    return model


def backbone(path, lookup=None, **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    settings = dict(img_size=16, patch_size=4, position='rpe', rpe_lookup=lookup, **kwargs)
    model = AdPEViT(ARCH, init_cfg=init_cfg, **settings)
    model.init_weights()
    return model.eval()


def old(weights):
    """As weights were before they kept the look-up."""
    return {name: value for name, value in weights.items() if not name.endswith('_extra_state')}


def config_text(lookup):
    settings = tiny_config('rpe', None, img_size=16)
    settings['backbone'].pop('rpe_lookup')
    if lookup:
        settings['backbone'].update(rpe_lookup=lookup)
    return Config(dict(model=settings, train_cfg=dict(max_epochs=1))).pretty_text


@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
def test_the_look_up_comes_with_the_weights(lookup, tmp_path):
    source = pretrained(lookup)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    images = torch.randn(2, 3, 16, 16)
    found = backbone(tmp_path / 'a.pth', out_type='raw')
    torch.testing.assert_close(found(images)[0], source.eval().extract_feat(images)[0])
    other = dict(bucket='interpolate', interpolate='bucket')[lookup]
    assert torch.equal(backbone(tmp_path / 'a.pth', lookup, out_type='raw')(images)[0],
                       found(images)[0])  # fmt: skip
    for layer in found.layers:
        layer.attn.rpe.lookup = other
    assert not torch.allclose(found(images)[0], source.extract_feat(images)[0], atol=1e-3)


@pytest.mark.parametrize('lookup, other', [('bucket', 'interpolate'), ('interpolate', 'bucket')])
def test_another_look_up_is_refused(lookup, other, tmp_path):
    weights = pretrained(lookup).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
    sentence = (
        f"^the weights were trained with rpe_lookup='{lookup}', and the config states "
        f"backbone.rpe_lookup='{other}': state None there, for that of the weights$"
    )
    with pytest.raises(ValueError, match=sentence):
        backbone(tmp_path / 'a.pth', other)
    with pytest.raises(ValueError, match=sentence):
        pretrained(other).load_state_dict(weights)


@pytest.mark.parametrize('lookup', ['bucket', 'interpolate', None])
def test_old_weights_are_of_the_config_that_they_were_saved_with(lookup, tmp_path):
    weights = old(pretrained(lookup or 'bucket').state_dict())
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict=weights, meta=dict(cfg=config_text(lookup))), path)
    used = lookup or 'bucket'  # what a config meant that did not say
    assert backbone(path).layers[1].attn.rpe.lookup == used
    model = pretrained(used)
    model.load_state_dict(load_weights(path))  # strictly
    other = dict(bucket='interpolate', interpolate='bucket')[used]
    with pytest.raises(ValueError, match=f"trained with rpe_lookup='{used}'"):
        backbone(path, other)


def test_old_weights_of_a_coordinate_adversary_tell_it(tmp_path):
    weights = old(pretrained('interpolate', 'coordinate').state_dict())
    torch.save(weights, tmp_path / 'old.pth')
    assert backbone(tmp_path / 'old.pth').layers[0].attn.rpe.lookup == 'interpolate'
    with pytest.raises(ValueError, match="trained with rpe_lookup='interpolate'"):
        backbone(tmp_path / 'old.pth', 'bucket')


def test_where_nothing_tells_it_must_be_stated(tmp_path):
    torch.save(dict(state_dict=old(pretrained('bucket').state_dict())), tmp_path / 'old.pth')
    with pytest.raises(ValueError, match='do not say .* state it as backbone.rpe_lookup'):
        backbone(tmp_path / 'old.pth')
    for lookup in ('bucket', 'interpolate'):
        assert backbone(tmp_path / 'old.pth', lookup).layers[0].attn.rpe.lookup == lookup


def test_from_scratch_it_interpolates_and_says_so(caplog, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'adpe_mm.models.backbones.adpe_vit.print_log', lambda line, **_: lines.append(line)
    )
    model = AdPEViT(ARCH, img_size=16, patch_size=4, position='rpe')
    model.init_weights()
    assert model.layers[0].attn.rpe.lookup == 'interpolate'
    assert len(lines) == 1 and "'interpolate' from scratch" in lines[0]
    AdPEViT(ARCH, img_size=16, patch_size=4).init_weights()
    assert len(lines) == 1


def test_state_dicts_without_irpe_are_mmpretrains():
    ours = AdPEViT(ARCH, img_size=16, patch_size=4).state_dict()
    assert list(ours) == list(VisionTransformer(ARCH, img_size=16, patch_size=4).state_dict())


@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
def test_through_ddp_and_averages(lookup, tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(pretrained(lookup))
        torch.save(dict(state_dict=wrapped.state_dict()), tmp_path / 'ddp.pth')
    finally:
        dist.destroy_process_group()
    assert backbone(tmp_path / 'ddp.pth').layers[0].attn.rpe.lookup == lookup
    average = ExponentialMovingAverage(wrapped.module)
    average.update_parameters(wrapped.module)
    torch.save(average.module.state_dict(), tmp_path / 'ema.pth')
    assert backbone(tmp_path / 'ema.pth').layers[0].attn.rpe.lookup == lookup
    again = ExponentialMovingAverage(pretrained(lookup))
    again.load_state_dict(average.state_dict(), strict=True)


def test_old_averages_get_the_look_up_too(tmp_path):
    average = ExponentialMovingAverage(pretrained('bucket'))
    parts = dict(state_dict=pretrained('bucket').state_dict(), ema_state_dict=average.state_dict())
    parts = {key: old(weights) for key, weights in parts.items()}
    torch.save(dict(parts, meta=dict(cfg=config_text('bucket'))), tmp_path / 'old.pth')
    checkpoint = read_checkpoint(tmp_path / 'old.pth')
    average.load_state_dict(checkpoint['ema_state_dict'], strict=True)
    assert find_weights(checkpoint)[LOOKUP].dtype == torch.uint8


def test_no_code_of_a_stored_config_runs(tmp_path):
    made = tmp_path / 'made'
    text = f"model = dict(backbone=dict(rpe_lookup=open('{made}', 'w')))"
    assert read_config(dict(meta=dict(cfg=text))) == {} and not made.exists()
    for broken in ('model = dict(', 'model = dict(**x)', None, 3):
        assert not read_config(dict(meta=dict(cfg=broken))).get('backbone')
    settings = tiny_config()
    text = Config(dict(a={'b c': 1}, model=settings)).pretty_text
    assert read_config(dict(meta=dict(cfg=text))) == settings


def test_a_look_up_of_a_later_version_is_named():
    weights = tiny_model('rpe', None).state_dict()
    weights[LOOKUP] = torch.tensor(7, dtype=torch.uint8)
    with pytest.raises(ValueError, match='look-up 7 .* install the version'):
        tiny_model('rpe', None).load_state_dict(weights)
