"""BEiT's relative position bias equals mmsegmentation's, and is nothing at first."""

import pytest
import torch
from mmseg.models.backbones import MAE
from mmseg.models.backbones.beit import BEiTAttention

from adpe_mm.models import AdPEViT
from adpe_mm.models.layers import Attention
from adpe_mm.models.layers.relative_bias import RelativePositionBias

TINY = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=96)


def pair(grid_size):
    """mmsegmentation's attention and ours, with the same random weights."""
    torch.manual_seed(0)
    theirs = BEiTAttention(24, 3, grid_size, bias=True)
    ours = Attention(24, 3, rel_pos_bias_size=grid_size)
    with torch.no_grad():
        for param in theirs.parameters():
            param.normal_(std=0.5)
        weights = {
            name.replace('relative_position_bias_table', 'rel_pos_bias.table'): value
            for name, value in theirs.state_dict().items()
            if name != 'relative_position_index'
        }
    ours.load_state_dict(weights, strict=True)
    return theirs, ours


@pytest.mark.parametrize('grid_size', [(4, 4), (3, 5), (1, 6)])
@pytest.mark.parametrize('learns', [True, False])
def test_equals_mmsegs_attention(grid_size, learns):
    """Both ways of `attend`: products of matrices where the bias learns, PyTorch's kernel else."""
    theirs, ours = pair(grid_size)
    ours.requires_grad_(learns)
    x = torch.randn(2, 1 + grid_size[0] * grid_size[1], 24)
    expected, found = theirs(x), ours(x, grid_size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = ours.weights(x, grid_size)
    values = ours.qkv(x).unflatten(-1, (3, 3, 8))[:, :, 2].transpose(1, 2)
    by_hand = ours.proj((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(by_hand, expected, atol=1e-5, rtol=1e-4)
    if learns:
        direction = torch.randn_like(found)
        (expected * direction).sum().backward()
        (found * direction).sum().backward()
        torch.testing.assert_close(
            ours.rel_pos_bias.table.grad,
            theirs.relative_position_bias_table.grad,
            atol=1e-5,
            rtol=1e-4,
        )


def test_equals_mmsegs_mae():
    """The whole backbone, whose layer scale of 1 (``init_values=1.0``) changes nothing."""
    theirs = MAE(
        img_size=(32, 48), patch_size=8, embed_dims=24, num_layers=2, num_heads=3, mlp_ratio=4,
        out_indices=[0, 1], norm_cfg=dict(type='LN', eps=1e-6), init_values=1.0,
    )  # fmt: skip
    theirs.eval()
    with torch.no_grad():
        for name, param in theirs.named_parameters():
            if 'gamma' not in name:
                param.normal_(std=0.3)
    weights = {
        name.replace('relative_position_bias_table', 'rel_pos_bias.table'): value
        for name, value in theirs.state_dict().items()
        if 'gamma' not in name and not name.endswith('relative_position_index')
    }
    ours = AdPEViT(
        TINY, img_size=(32, 48), patch_size=8, out_type='featmap', out_indices=[0, 1],
        final_norm=False, rel_pos_bias=True,
    ).eval()  # fmt: skip
    ours.load_state_dict(weights, strict=True)
    images = torch.randn(2, 3, 32, 48)
    for found, expected in zip(ours(images), theirs(images), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_another_grid_is_interpolated_and_keeps_what_is_near():
    """A table that is linear in the offset stays so, steeper by the ratio of the two lengths."""
    bias = RelativePositionBias(2, (9, 7))
    rows, columns = torch.arange(-8.0, 9), torch.arange(-6.0, 7)
    linear = (3 * rows[:, None] + 5 * columns).flatten()
    with torch.no_grad():
        bias.table[:-3] = torch.stack((linear, -linear), dim=1)
        bias.table[-3:] = torch.tensor([[7.0, 7], [8, 8], [9, 9]])
    place = torch.cartesian_prod(torch.arange(5), torch.arange(4))
    offset = (place[:, None] - place[None]).float()
    expected = 3 * 17 / 9 * offset[..., 0] + 5 * 13 / 7 * offset[..., 1]
    found = bias((5, 4), 0)
    torch.testing.assert_close(found, torch.stack((expected, -expected)))
    with_cls = bias((5, 4), 1)
    torch.testing.assert_close(with_cls[:, 1:, 1:], found)
    assert (with_cls[:, 0, 0] == 9).all()
    assert (with_cls[:, 0, 1:] == 7).all() and (with_cls[:, 1:, 0] == 8).all()


def test_windows_have_tables_of_their_own_size():
    settings = dict(img_size=64, patch_size=8, out_type='featmap', with_cls_token=False)
    vit = AdPEViT(TINY, window_size=4, global_blocks=[1], rel_pos_bias=True, **settings)
    sizes = [len(layer.attn.rel_pos_bias.table) for layer in vit.layers]
    assert sizes == [7 * 7 + 3, 15 * 15 + 3]
    vit.init_weights()
    assert vit(torch.randn(1, 3, 64, 80))[0].shape == (1, 24, 8, 10)


def test_it_is_new_after_pretraining_and_zero_at_first():
    settings = dict(img_size=32, patch_size=8, out_type='featmap')
    pretrained = AdPEViT(TINY, **settings).eval()
    pretrained.init_weights()
    vit = AdPEViT(TINY, rel_pos_bias=True, **settings).eval()
    vit.load_pretrained(pretrained.state_dict())
    added = set(vit.state_dict()) - set(pretrained.state_dict())
    assert added == {f'layers.{i}.attn.rel_pos_bias.table' for i in range(2)}
    for size in (32, 48):
        images = torch.randn(2, 3, size, 32)
        torch.testing.assert_close(vit(images)[0], pretrained(images)[0], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        vit.layers[0].attn.rel_pos_bias.table.normal_()
    assert not torch.allclose(vit(images)[0], pretrained(images)[0], atol=1e-3)


def test_irpe_needs_no_bias():
    with pytest.raises(ValueError, match="rel_pos_bias is for position='ape'"):
        AdPEViT(TINY, position='rpe', rel_pos_bias=True)
