"""A checkpoint whose patches are of another size."""

import math

import pytest
import torch

from adpe_mm.checkpoints import resize_patch_kernel
from adpe_mm.models import AdPEViT

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def bicubic(old: int, new: int) -> torch.Tensor:
    """(new, old) matrix of Keys' cubic convolution, a = -0.75, between the centres of pixels."""
    matrix = torch.zeros(new, old)
    for row in range(new):
        place = (row + 0.5) * old / new - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - tap)
            if x <= 1:
                weight = 1.25 * x**3 - 2.25 * x**2 + 1
            else:
                weight = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[row, min(max(tap, 0), old - 1)] += weight
    return matrix


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_kernel_of_14_px_at_16(dtype):
    kernel = torch.randn(5, 3, 14, 14).to(dtype)
    matrix = bicubic(14, 16)
    expected = torch.einsum('yh,echw,xw->ecyx', matrix, kernel.float(), matrix)
    got = resize_patch_kernel(kernel, (16, 16))
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected.to(dtype), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize('position', ['ape', 'rpe'])
def test_a_network_of_16_px_begins_from_one_of_14(position, tmp_path):
    source = AdPEViT(arch=ARCH, img_size=56, patch_size=14, position=position)
    source.init_weights()
    weights = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / '14.pth')
    model = AdPEViT(
        arch=ARCH,
        img_size=96,
        pretrain_img_size=56,
        patch_size=16,
        position=position,
        out_type='featmap',
        final_norm=False,
        with_cls_token=False,
        window_size=2,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / '14.pth'), prefix='backbone.'),
    )
    model.init_weights()
    got, given = model.state_dict(), source.state_dict()
    name = 'patch_embed.projection.weight'
    matrix = bicubic(14, 16)
    expected = torch.einsum('yh,echw,xw->ecyx', matrix, given[name], matrix)
    torch.testing.assert_close(got[name], expected, atol=1e-5, rtol=1e-3)
    assert model.position_grid_size == (3, 3) and source.position_grid_size == (4, 4)
    for name in set(got) - {'patch_embed.projection.weight', 'pos_embed'}:
        if not name.endswith('._extra_state'):
            assert torch.equal(got[name], given[name]), name
    assert model(torch.randn(1, 3, 96, 96))[0].shape == (1, 24, 6, 6)


def test_other_channels_do_not_fit(tmp_path):
    source = AdPEViT(arch=ARCH, img_size=56, patch_size=14, in_channels=1)
    torch.save(source.state_dict(), tmp_path / 'grey.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'grey.pth'))
    model = AdPEViT(arch=ARCH, img_size=64, patch_size=16, init_cfg=init_cfg)
    with pytest.raises(ValueError, match='projection.weight .* instead of'):
        model.init_weights()
