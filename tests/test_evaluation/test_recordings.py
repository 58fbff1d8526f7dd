import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from adpe_mm.evaluation.recordings import check_recording
from tests.helpers import VARIANTS, tiny_model

DATA = Path(__file__).parents[1] / 'data' / 'reference'
TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'check_reference.py'


@pytest.mark.parametrize('path', sorted(DATA.glob('*.npz')), ids=lambda path: path.stem)
def test_equals_the_official_code(path):
    lines = check_recording(path).lines
    assert len(lines) >= (2 if 'finetune' in path.stem else 50)
    bad = [(quantity, error) for quantity, error, tolerance in lines if not error <= tolerance]
    assert bad == []


@pytest.mark.parametrize('key', ['loss', 'latent', 'grad/decoder_pred.bias', 'traj/l2/losses'])
def test_a_wrong_number_fails(tmp_path, key):
    with np.load(DATA / 'ape_coordinate.npz') as file:
        arrays = dict(file)
    arrays[key] = arrays[key] * (1 + 1e-3)
    np.savez(tmp_path / 'wrong.npz', **arrays)
    run = subprocess.run(
        [sys.executable, TOOL, tmp_path / 'wrong.npz'], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert 'FAIL wrong' in run.stdout


def official_names(model) -> dict[str, np.ndarray]:
    """Weights under official names, written down independently of the converter."""
    renamed = {}
    for name, value in model.state_dict().items():
        if name.endswith('_extra_state'):  # iRPE's look-up, which the official code does not keep
            continue
        if name.startswith('data_preprocessor'):
            continue
        for ours, official in [
            ('backbone.patch_embed.projection', 'patch_embed.proj'),
            ('backbone.layers.', 'blocks.'),
            ('backbone.ln1', 'norm'),
            ('backbone.', ''),
            ('neck.layers.', 'decoder_blocks.'),
            ('neck.embed', 'decoder_embed'),
            ('neck.predict', 'decoder_pred'),
            ('neck.ln1', 'decoder_norm'),
            ('adversary.ape', 'adv_token'),
            ('ln1', 'norm1'),
            ('ln2', 'norm2'),
            ('ffn.layers.0.0', 'mlp.fc1'),
            ('ffn.layers.1', 'mlp.fc2'),
            ('attn.rpe.table', 'attn.rpe_k.lookup_table_weight'),
        ]:
            if not (ours == 'ln1' and 'norm' in name):
                name = name.replace(ours, official)
        if name.startswith('adversary.'):
            _, part, block = name.split('.')
            prefix = 'blocks' if part == 'encoder' else 'decoder_blocks'
            shift = 'adv_shift' if value.ndim == 1 else 'adv_token'
            name = f'{prefix}.{block}.attn.rpe_k.{shift}'
        if 'rpe_k' in name and value.ndim == 2:
            value = value[None]
        renamed[name] = value.detach().numpy().copy()
    return renamed


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_sizes_are_read_off_the_arrays(tmp_path, position, mode):
    """Other widths, depths and heads, and a grid that is not square."""
    model = tiny_model(
        position,
        mode,
        **({'per_bucket': False} if (position, mode) == ('rpe', 'embedding') else {}),
    )
    for layer in [*model.backbone.layers, *model.neck.layers]:
        torch.nn.init.normal_(layer.attn.qkv.weight, std=0.3)
    images, noise = torch.randn(3, 3, 16, 24), torch.rand(3, 24)
    mask = model.backbone.draw_mask(images, noise)
    latent = model.backbone.encode_masked(images, mask, model.adversary)
    pred, _ = model.predict_patches(images, noise)
    loss = model.loss(images, noise=noise)['loss']
    arrays = {f'param/{name}': value for name, value in official_names(model).items()}
    recorded = dict(images=images, noise=noise, mask=mask.masked.float(), latent=latent, pred=pred)
    arrays |= {key: value.detach().numpy() for key, value in recorded.items()}
    np.savez(tmp_path / 'other.npz', **arrays, loss=loss.item())
    lines = check_recording(tmp_path / 'other.npz').lines
    assert {line[0] for line in lines} == {'mask', 'latent', 'pred', 'loss'}
    assert all(error <= tolerance for _, error, tolerance in lines)


def test_missing_file_is_one_sentence(tmp_path):
    run = subprocess.run(
        [sys.executable, TOOL, tmp_path / 'no.npz'], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert 'there is no recording' in run.stdout and 'Traceback' not in run.stderr
