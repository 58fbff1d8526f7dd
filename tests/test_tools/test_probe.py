"""probe.py, started as a user does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file

from adpe_mm.errors import UserError
from adpe_mm.evaluation.probes import read_encoder
from tests.helpers import tiny_config, tiny_model

TOOL = Path(__file__).parents[2] / 'tools' / 'probe.py'


def run(*arguments):
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def trained(tmp_path):
    """A checkpoint, images of two classes, bright and dark, and masks of the same."""
    meta = dict(cfg=Config(dict(model=tiny_config())).pretty_text)
    torch.manual_seed(0)
    torch.save(dict(state_dict=tiny_model().state_dict(), meta=meta), tmp_path / 'epoch_1.pth')
    rng = np.random.default_rng(0)
    for label, name in enumerate(('bright', 'dark')):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 100, (32, 40, 3), dtype=np.uint8) + (100, 0)[label]
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / 'data' / name / f'{i}.png')
    for part in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'masks' / kind / part).mkdir(parents=True)
        for i in range(6):
            mask = np.repeat([[1, 2]], 20, axis=1).repeat(32, axis=0).astype(np.uint8)
            pixels = np.where(mask == 1, 200, 40)[..., None] + rng.integers(0, 30, (32, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f'masks/images/{part}/{i}.png')
            Image.fromarray(mask).save(tmp_path / f'masks/annotations/{part}/{i}.png')
    return tmp_path


def test_a_table_and_a_file(trained):
    out = trained / 'found.json'
    done = run(
        trained / 'epoch_1.pth', trained / 'data', '--masks', trained / 'masks', '--random',
        '--probes', 'knn', 'linear', '--workers', 0, '--device', 'cpu', '--out', out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.strip().splitlines()[:3]
    assert [title.strip() for title in head.split('  ') if title] == [
        'k-NN %', 'linear %', 'mIoU %', 'effective rank', 'largest / mean norm'
    ]  # fmt: skip
    found = json.loads(out.read_text())['probes']
    assert list(found) == ['epoch_1.pth', 'random weights']
    assert first.split()[:2] == ['epoch_1.pth', f'{found["epoch_1.pth"]["knn"]:.1f}']
    assert second.startswith('random weights')
    for results in found.values():
        assert results['num_train'] == 16 and results['num_val'] == 4
        assert results['knn'] == results['linear'] == 100  # bright or dark
        assert results['segmentation']['miou'] > 80
    assert found['epoch_1.pth']['token_norm'] != found['random weights']['token_norm']
    assert 'attention distance, px, by block' in done.stdout


def test_mistakes_are_named_in_one_sentence(trained):
    for arguments, sentence in [
        ((trained / 'no.pth', trained / 'data'), 'there is no checkpoint'),
        ((trained / 'epoch_1.pth', trained / 'data', '--out', 'no/x.json'), "no folder 'no'"),
    ]:
        done = run(*arguments, '--workers', 0, '--device', 'cpu')
        assert done.returncode == 1
        assert sentence in done.stderr and 'Traceback' not in done.stderr, done.stderr


def test_checkpoints_of_timm_and_mae(tmp_path):
    """The features are those of timm's own network, whose files MAE's are named alike."""
    torch.manual_seed(0)
    theirs = timm.create_model('vit_tiny_patch16_224', img_size=32, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.forward_features(images)[:, 1:]
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'mae.pth')
    save_file(theirs.state_dict(), tmp_path / 'timm.safetensors')
    for name in ('mae.pth', 'timm.safetensors'):
        encoder = read_encoder(tmp_path / name)
        found = encoder(images)[0].flatten(2).transpose(1, 2)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    torch.save(dict(model=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='no counterpart here'):
        read_encoder(tmp_path / 'other.pth')
    random = [read_encoder(tmp_path / 'mae.pth', seed).layers[0].attn.qkv.weight for seed in (0, 0)]
    assert torch.equal(*random) and not torch.equal(random[0], encoder.layers[0].attn.qkv.weight)
