"""Exported backbones give equal outputs in the other libraries."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from mmpretrain.models import VisionTransformer
from torch import nn
from transformers import ViTModel

from adpe_mm.checkpoints import load_backbone
from adpe_mm.models import AdPEViT
from tests.helpers import tiny_model

TOOLS = Path(__file__).parents[2] / 'tools' / 'model_converters'
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def export(tool, source, target, *options):
    return subprocess.run(
        [sys.executable, TOOLS / tool, source, target, *options], capture_output=True, text=True
    )


@pytest.fixture
def pretrained(tmp_path):
    model = tiny_model('ape', 'coordinate', img_size=16).eval()
    with torch.no_grad():
        for param in model.parameters():
            param.normal_(std=0.2)
        expected = model.extract_feat(IMAGES)[0]
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), tmp_path / 'ours.pth')
    return tmp_path / 'ours.pth', expected


def test_timm(pretrained, tmp_path):
    source, expected = pretrained
    done = export('adpe_to_timm.py', source, tmp_path / 'timm.pth')
    assert done.returncode == 0 and 'neck.embed.weight' in done.stdout, done.stderr
    model = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=0
    ).eval()
    model.load_state_dict(torch.load(tmp_path / 'timm.pth', weights_only=True), strict=True)
    torch.testing.assert_close(model.forward_features(IMAGES), expected, atol=1e-5, rtol=1e-4)


def test_mmpretrain(pretrained, tmp_path):
    source, expected = pretrained
    done = export('adpe_to_mmpretrain.py', source, tmp_path / 'mmpretrain.pth')
    assert done.returncode == 0, done.stderr
    model = VisionTransformer(
        arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
        img_size=16,
        patch_size=4,
        out_type='raw',
    )
    weights = torch.load(tmp_path / 'mmpretrain.pth', weights_only=True)['state_dict']
    model.load_state_dict({n.removeprefix('backbone.'): v for n, v in weights.items()}, strict=True)
    model.eval()
    torch.testing.assert_close(model(IMAGES)[0], expected, atol=1e-5, rtol=1e-4)


def test_transformers(pretrained, tmp_path):
    source, expected = pretrained
    folder = tmp_path / 'vit'
    done = export('adpe_to_transformers.py', source, folder)
    assert done.returncode == 1 and 'state arch.num_heads' in done.stderr  # it has no config
    assert not folder.exists()
    done = export('adpe_to_transformers.py', source, folder, '--num-heads', '3')
    assert done.returncode == 0 and 'neck.embed.weight' in done.stdout, done.stderr
    model, loading = ViTModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not any(loading.values()), loading  # nothing is missing, left over, or of another shape
    with torch.no_grad():
        found = model.eval()(IMAGES).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_vit_model_of_transformers(tmp_path):
    """A classifier on the mean of the patches has no norm at the end of its backbone."""
    model = nn.Module()
    model.backbone = AdPEViT('ti', img_size=32, out_type='avg_featmap', final_norm=False)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'x.pth')
    done = export('adpe_to_transformers.py', tmp_path / 'x.pth', tmp_path / 'vit')
    assert done.returncode == 1 and 'needs backbone.ln1.weight' in done.stderr
    assert 'Traceback' not in done.stderr and not (tmp_path / 'vit').exists()


@pytest.mark.parametrize(
    'tool', ['adpe_to_timm.py', 'adpe_to_mmpretrain.py', 'adpe_to_transformers.py']
)
def test_what_cannot_be_exported(tool, tmp_path):
    torch.save(dict(state_dict=tiny_model('rpe').state_dict()), tmp_path / 'rpe.pth')
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    for source, sentence in [
        ('rpe.pth', 'relative positions'),
        ('other.pth', 'no weights named backbone'),
        ('none.pth', 'there is no checkpoint'),
    ]:
        done = export(tool, tmp_path / source, tmp_path / 'out.pth')
        assert done.returncode == 1 and sentence in done.stderr, done.stderr
        assert 'Traceback' not in done.stderr and not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('option', ['rel_pos_bias', 'decomposed_rpe'])
def test_other_relative_positions(option, tmp_path):
    model = nn.Module()
    options = dict(img_size=32, with_cls_token=False, out_type='featmap')
    model.backbone = AdPEViT('ti', **options, **{option: True})
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='has relative positions, which timm'):
        load_backbone(tmp_path / 'x.pth')
