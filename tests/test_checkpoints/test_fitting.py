"""A checkpoint whose patches are of another size, or of other bands."""

import math

import pytest
import torch
from timm.models import adapt_input_conv

from adpe_mm import get_model
from adpe_mm.checkpoints import fitting, kernel_of_bands, resize_patch_kernel
from adpe_mm.models import AdPEPretrainViT, AdPEViT

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


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('channels', [1, 2, 4, 6, 13])
def test_rgb_begins_other_bands_as_in_timm(channels, dtype):
    kernel = torch.randn(5, 3, 4, 4).to(dtype)
    got = kernel_of_bands(kernel, channels)
    assert got.dtype == dtype and torch.equal(got, adapt_input_conv(channels, kernel))


@pytest.fixture
def rgb(tmp_path):
    source = AdPEViT(arch=ARCH, img_size=16, patch_size=4)
    source.init_weights()
    weights = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'rgb.pth')
    return source.eval(), tmp_path / 'rgb.pth'


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(fitting, 'print_log', lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize('channels', [1, 3, 6])
def test_a_network_of_other_bands_begins_from_rgb_and_says_it(rgb, said, channels):
    source, path = rgb
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    options = dict(arch=ARCH, img_size=16, patch_size=4, in_channels=channels)
    model = AdPEViT(init_cfg=init_cfg, **options).eval()
    model.init_weights()
    by_api = get_model(path, in_channels=channels, arch=dict(num_heads=3))
    pretraining = AdPEPretrainViT(init_cfg=init_cfg, **options)
    pretraining.init_weights()
    assert len(said) == (0 if channels == 3 else 3)
    assert all(f'weights of RGB begin a network of {channels} band' in text for text in said)
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():  # of images that are alike in all bands, all see the same
        (expected,) = source(image.expand(-1, 3, -1, -1))
        given = image.expand(-1, channels, -1, -1)
        for network in (model, by_api):
            torch.testing.assert_close(network(given)[0], expected, atol=1e-5, rtol=1e-4)
    for name in ('patch_embed.projection.weight', 'layers.0.attn.qkv.weight'):
        assert torch.equal(pretraining.state_dict()[name], model.state_dict()[name])


@pytest.mark.parametrize('given, wanted', [(1, 3), (6, 3), (6, 4), (4, 1)])
def test_other_bands_begin_nothing_else(tmp_path, given, wanted):
    source = AdPEViT(arch=ARCH, img_size=56, patch_size=14, in_channels=given)
    torch.save(source.state_dict(), tmp_path / 'bands.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'bands.pth'))
    model = AdPEViT(arch=ARCH, img_size=64, patch_size=16, in_channels=wanted, init_cfg=init_cfg)
    text = f'takes {given} bands .*only weights of RGB .* set model.backbone.in_channels={given}'
    with pytest.raises(ValueError, match=text):
        model.init_weights()
