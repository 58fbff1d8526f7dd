import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models.selfsup import MAEViT

from adpe_mm.checkpoints import (
    convert,
    describe,
    foreign_name,
    infer_config,
    load_weights,
    our_name,
)
from adpe_mm.models import AdPEPretrainViT, AdPEViT, MAEPlus
from adpe_mm.models.layers.position import sincos_position_grid

DATA = Path(__file__).parents[1] / 'data' / 'reference'
TOOLS = Path(__file__).parents[2] / 'tools' / 'model_converters'


def official(variant: str) -> dict:
    with np.load(DATA / f'{variant}.npz') as file:
        return {k[6:]: torch.from_numpy(file[k]) for k in file.files if k.startswith('param/')}


def run(tool, *arguments):
    return subprocess.run(
        [sys.executable, TOOLS / tool, *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.parametrize('variant', ['ape_embedding', 'rpe_baseline', 'rpe_coordinate'])
def test_official_checkpoint_loads_strictly(tmp_path, variant):
    source, result = tmp_path / 'official.pth', tmp_path / 'ours.pth'
    # As the official script saves it, with its arguments beside the weights.
    torch.save(dict(model=official(variant), epoch=3, args=argparse.Namespace(lr=1)), source)
    done = run('official_to_adpe.py', source, result)
    assert done.returncode == 0, done.stderr
    assert 'blocks.0.norm1.weight -> backbone.layers.0.ln1.weight' in done.stdout
    weights = torch.load(result, weights_only=True)['state_dict']
    config = infer_config(weights)
    config.pop('type')
    missing, unexpected = MAEPlus(**config).load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith('data_preprocessor') for name in missing)


def test_left_over_and_missing_arrays_are_errors(tmp_path):
    source, result = tmp_path / 'official.pth', tmp_path / 'ours.pth'
    weights = official('ape_baseline')
    weights['teacher.weight'] = torch.zeros(2)
    torch.save(dict(model=weights), source)
    done = run('official_to_adpe.py', source, result)
    assert done.returncode == 1 and 'teacher.weight' in done.stderr and not result.exists()
    assert 'Traceback' not in done.stderr
    assert run('official_to_adpe.py', source, result, '--allow', 'teacher.*').returncode == 0
    result.unlink()

    weights = official('ape_baseline')
    del weights['blocks.1.mlp.fc2.bias']
    torch.save(dict(model=weights), source)
    done = run('official_to_adpe.py', source, result)
    assert done.returncode == 1 and 'backbone.layers.1.ffn.layers.1.bias' in done.stderr
    assert not result.exists()


def test_constants_are_compared():
    weights = official('rpe_coordinate')
    _, report = convert(weights)
    assert 'decoder_pos_embed' in report.constants
    weights['decoder_pos_embed'] = weights['decoder_pos_embed'] + 1
    with pytest.raises(ValueError, match='not the constant'):
        convert(weights)


def mae_checkpoint() -> dict:
    """facebookresearch/mae's arrays of a tiny network: mask token and positions in the decoder."""
    weights = {n: v for n, v in official('ape_baseline').items() if n != 'mask_token'}
    return weights | {'mask_token': torch.zeros(1, 1, weights['decoder_embed.weight'].shape[0])}


def test_mae_encoder_loads_into_the_backbone(tmp_path):
    torch.save(dict(model=mae_checkpoint()), tmp_path / 'mae.pth')
    done = run('mae_to_adpe.py', tmp_path / 'mae.pth', tmp_path / 'ours.pth')
    assert done.returncode == 0, done.stderr
    assert 'decoder_embed.weight: of the decoder, left behind' in done.stdout
    weights = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
    backbone = AdPEViT(
        arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192),
        img_size=28,
        patch_size=4,
        out_type='raw',
    )
    backbone.load_state_dict({n.removeprefix('backbone.'): v for n, v in weights.items()})
    with np.load(DATA / 'ape_baseline.npz') as file:
        expected = torch.from_numpy(file['param/blocks.1.attn.proj.weight'])
    assert torch.equal(backbone.layers[1].attn.proj.weight, expected)


@pytest.mark.parametrize('lookup', [None, 'bucket', 'interpolate'])
def test_pretraining_goes_on_from_mae(tmp_path, lookup):
    """The encoder is MAE's, its positions are of the crop's grid, and the decoder is new."""
    torch.save(dict(model=mae_checkpoint()), tmp_path / 'mae.pth')
    options = ['--rpe-lookup', lookup, '--num-heads', 3] if lookup else []
    done = run('mae_to_adpe.py', tmp_path / 'mae.pth', tmp_path / 'ours.pth', *options)
    assert done.returncode == 0, done.stderr
    path = str(tmp_path / 'ours.pth')
    weights = load_weights(path)
    position = 'rpe' if lookup else 'ape'
    described = describe(path)
    assert (described['method'], described['position']) == ('MAE', position)
    assert described['rpe_lookup'] == lookup
    torch.manual_seed(0)
    model = MAEPlus(
        backbone=dict(
            type='adpe_mm.AdPEPretrainViT',
            arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192),
            img_size=16,  # 4 x 4 patches, where the checkpoint's were 7 x 7
            patch_size=4,
            position=position,
            rpe_lookup=lookup or 'bucket',
            init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'),
        ),
        neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=32, num_layers=1, num_heads=2),
        adversary=dict(
            type='adpe_mm.AdversarialPosition',
            mode='embedding' if lookup == 'bucket' else 'coordinate',
        ),
    )
    model.init_weights()
    started = model.state_dict()
    assert torch.equal(model.backbone.pos_embed, sincos_position_grid((4, 4), 48))
    for name, value in weights.items():
        if name != 'backbone.pos_embed':
            assert torch.equal(started[name], value), name
    if lookup:
        assert not started['backbone.layers.1.attn.rpe.table'].any()
    assert started['neck.embed.weight'].std() > 0 and started['backbone.mask_token'].any()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(8, 3, 16, 16)
    losses = []
    for _ in range(4):
        loss = model.loss(images)['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    learnt = model.backbone.layers[0].attn.qkv.weight
    assert not torch.equal(learnt, weights['backbone.layers.0.attn.qkv.weight'])


def test_tables_need_the_number_of_heads(tmp_path):
    torch.save(dict(model=mae_checkpoint()), tmp_path / 'mae.pth')
    tables = ['--rpe-lookup', 'bucket']
    done = run('mae_to_adpe.py', tmp_path / 'mae.pth', tmp_path / 'ours.pth', *tables)
    assert done.returncode == 1 and '--num-heads' in done.stderr
    assert 'Traceback' not in done.stderr


def test_mmpretrains_mae_gets_maes_positions(tmp_path):
    """Its rows and columns are exchanged; so are the halves of all tokens, and nothing else."""
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    theirs = MAEViT(arch=arch, img_size=32, patch_size=8)
    theirs.init_weights()
    with torch.no_grad():
        for name, param in theirs.named_parameters():
            if name != 'pos_embed':
                param.normal_(std=0.3)
    weights = {f'backbone.{name}': value for name, value in theirs.state_dict().items()}
    weights['neck.mask_token'] = torch.zeros(1, 1, 16)
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'mmpretrain.pth')
    done = run('mae_to_adpe.py', tmp_path / 'mmpretrain.pth', tmp_path / 'ours.pth')
    assert done.returncode == 0, done.stderr
    assert 'neck.mask_token: of the decoder, left behind' in done.stdout
    ours = AdPEViT(arch=arch, img_size=32, patch_size=8, out_type='raw').eval()
    ours.load_pretrained(load_weights(tmp_path / 'ours.pth'))
    torch.testing.assert_close(ours.pos_embed.detach(), sincos_position_grid((4, 4), 24))
    images = torch.randn(2, 3, 32, 32)
    theirs.eval()
    expected = theirs(images, mask=None)[0]
    first, second = ours(images)[0].chunk(2, dim=-1)
    found = torch.cat((second, first), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_pretraining_does_not_go_on_from_other_positions(tmp_path):
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    theirs = MAEViT(arch=arch, img_size=32, patch_size=8)
    theirs.init_weights()
    encoder = AdPEPretrainViT(arch=arch, img_size=16, patch_size=8)
    with pytest.raises(ValueError, match='not the fixed sine-cosine grid'):
        encoder.load_pretrained(theirs.state_dict())


def test_unreadable_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        load_weights(tmp_path / 'none.pth')
    torch.save(dict(model=dict(a=torch.zeros(1)), hook=print), tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='weights only'):
        load_weights(tmp_path / 'code.pth')
    torch.save(dict(epoch=1), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='no state dict'):
        load_weights(tmp_path / 'empty.pth')


def test_names_lead_back():
    """One table serves both directions: every name of ours is found again by its foreign one."""
    for variant in ('ape_coordinate', 'ape_embedding', 'rpe_coordinate', 'rpe_embedding'):
        weights, report = convert(official(variant))
        assert not report.unexpected
        for name in weights:
            if name.endswith('_extra_state'):
                continue  # the look-up, which the others do not write down
            assert our_name(foreign_name(name)) == name
    assert foreign_name('backbone.layers.11.ffn.layers.0.0.bias') == 'blocks.11.mlp.fc1.bias'
    assert our_name('head.weight') is None and foreign_name('head.weight') is None
