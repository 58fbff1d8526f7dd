"""Windows, decomposed positions and the pyramid against formulations of their own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adpe_mm.models import AdPEViT, SimpleFeaturePyramid
from adpe_mm.models.layers.decomposed_rpe import _by_offset
from adpe_mm.models.layers.windows import from_windows, to_windows

TINY = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)


def randomize(module, seed=0):
    torch.manual_seed(seed)
    for param in module.parameters():
        nn.init.normal_(param, std=0.3)
    return module.eval()


def vitdet(**kwargs):
    settings = dict(
        arch=TINY,
        img_size=(24, 40),
        patch_size=4,
        rpe_lookup='bucket',
        out_type='featmap',
        final_norm=False,
        with_cls_token=False,
        window_size=4,
    )
    return randomize(AdPEViT(**settings | kwargs))


@pytest.mark.parametrize('grid', [(8, 8), (6, 10), (3, 2)])
def test_windows_are_those_of_an_index(grid):
    R, C = grid
    x = torch.randn(2, R * C, 5)
    windows = to_windows(x, grid, 4)
    rows, columns = -(-R // 4), -(-C // 4)
    assert windows.shape == (2 * rows * columns, 16, 5)
    for r in range(rows * 4):
        for c in range(columns * 4):
            got = windows.unflatten(0, (2, -1))[:, r // 4 * columns + c // 4, r % 4 * 4 + c % 4]
            inside = r < R and c < C
            assert torch.equal(got, x[:, r * C + c] if inside else torch.zeros(2, 5))
    assert torch.equal(from_windows(windows, grid, 4), x)


def explicit_bias(block, q, grid, place):
    """(B, H, L, L) position term, pair by pair, of tokens at `place` (L, 2) of a grid."""
    bias = torch.zeros(*q.shape[:3], q.shape[2])
    offset = place[:, None] - place[None, :]  # (L, L, 2)
    if block.attn.decomposed_rpe is not None:
        tables = block.attn.decomposed_rpe.rel_pos_h, block.attn.decomposed_rpe.rel_pos_w
        for axis, table in enumerate(tables):
            pair = table[offset[..., axis] + grid[axis] - 1]  # (L, L, D)
            bias = bias + torch.einsum('bhid,ijd->bhij', q, pair)
    if block.attn.rpe is not None:

        def bucket(x):
            far = 1.9 + (x.abs().clamp(min=1).float() / 1.9).log() / torch.tensor(8.0).log() * 1.9
            near = x.abs() <= 1.9
            return torch.where(near, x, x.sign() * far.round().clamp(max=3).long()).long()

        index = (bucket(offset[..., 0]) + 3) * 7 + bucket(offset[..., 1]) + 3
        scaled = q * q.shape[-1] ** -0.5
        bias = bias + torch.einsum('bhid,dij->bhij', scaled, block.attn.rpe.table[:, index])
    return bias


def masked_global_block(block, x, grid, size):
    """A block with windows as global attention over the padded grid, masked to the windows."""
    B, _, E = x.shape
    R, C = grid
    padded = (-(-R // size) * size, -(-C // size) * size) if size else grid
    y = block.ln1(x).unflatten(1, grid)
    y = F.pad(y, (0, 0, 0, padded[1] - C, 0, padded[0] - R)).flatten(1, 2)
    place = torch.cartesian_prod(torch.arange(padded[0]), torch.arange(padded[1]))
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(y).reshape(B, len(place), 3, heads, -1).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if size:
        window = place // size
        apart = (window[:, None] != window[None, :]).any(-1)
        # Offsets across windows are masked below; they only must be inside of the tables.
        bias = torch.zeros_like(logits)
        for r, c in window.unique(dim=0).tolist():
            inside = (window == torch.tensor([r, c])).all(-1).nonzero().squeeze(1)
            part = explicit_bias(block, q[:, :, inside], (size, size), place[inside])
            bias[:, :, inside[:, None], inside] = part
        logits = (logits + bias).masked_fill(apart, float('-inf'))
    else:
        logits = logits + explicit_bias(block, q, grid, place)
    y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(B, *padded, E)
    y = block.attn.proj(y)[:, :R, :C].flatten(1, 2)
    x = x + y
    return x + block.ffn(block.ln2(x))


@pytest.mark.parametrize('position', ['ape', 'rpe'])
@pytest.mark.parametrize('decomposed', [False, True])
def test_backbone_is_global_attention_masked_to_windows(position, decomposed):
    model = vitdet(position=position, decomposed_rpe=decomposed, global_blocks=[1, 3])
    images = torch.randn(2, 3, 24, 40)
    with torch.no_grad():
        x = model.patch_embed.projection(images).flatten(2).transpose(1, 2) + model.pos_embed
        for i, block in enumerate(model.layers):
            x = masked_global_block(block, x, (6, 10), 0 if i in (1, 3) else 4)
        expected = x.transpose(1, 2).unflatten(2, (6, 10))
        torch.testing.assert_close(model(images)[0], expected, atol=1e-5, rtol=1e-5)


def test_global_blocks_are_spread_evenly():
    def without_windows(**kwargs):
        with torch.device('meta'):
            model = AdPEViT(
                img_size=1024, out_type='featmap', with_cls_token=False, window_size=14, **kwargs
            )
        return [i for i, layer in enumerate(model.layers) if not layer.window_size]

    # Those of detectron2's ViTDet.
    assert without_windows(arch='b') == [2, 5, 8, 11]
    assert without_windows(arch='l') == [5, 11, 17, 23]
    assert without_windows(arch='h') == [7, 15, 23, 31]
    assert without_windows(arch='b', global_blocks=[0, -1]) == [0, 11]


def test_activation_checkpointing_changes_nothing():
    images = torch.randn(2, 3, 24, 40)
    gradients = []
    for with_cp in (False, True):
        model = vitdet(position='rpe', with_cp=with_cp, drop_path_rate=0.5).train()
        torch.manual_seed(3)
        model(images)[0].square().sum().backward()
        gradients.append([param.grad for param in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)


def test_tables_of_another_size_are_interpolated():
    model = vitdet(decomposed_rpe=True)
    assert model(torch.randn(1, 3, 32, 48))[0].shape == (1, 24, 8, 12)
    table = model.layers[3].attn.decomposed_rpe.rel_pos_h  # of 6 rows
    got = _by_offset(table, 8)
    resized = F.interpolate(table.T[None], 15, mode='linear')[0].T
    assert got.shape == (8, 8, 8)
    torch.testing.assert_close(got[7, 0], resized[14], atol=1e-6, rtol=1e-6)


def test_pyramid_by_hand():
    neck = randomize(SimpleFeaturePyramid(16, 8)).double()
    x = torch.randn(2, 16, 6, 10, dtype=torch.float64)

    def norm(x, layer):
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-6).sqrt() * layer.weight[:, None, None] + layer.bias[
            :, None, None
        ]

    def double(x, layer):  # a transposed convolution whose kernel is its stride
        out = torch.einsum('bchw,coij->bohiwj', x, layer.weight).flatten(4, 5).flatten(2, 3)
        return out + layer.bias[:, None, None]

    def last(x, level):
        one, three = level[-2], level[-1]
        x = norm(torch.einsum('bchw,oc->bohw', x, one.conv.weight[:, :, 0, 0]), one.ln)
        columns = F.unfold(x, 3, padding=1).unflatten(0, (2,))
        x = torch.einsum('bkn,ok->bon', columns, three.conv.weight.flatten(1)).unflatten(
            2, x.shape[2:]
        )
        return norm(x, three.ln)

    with torch.no_grad():
        outs = neck([torch.zeros(0), x])
        level = neck.levels
        four = double(F.gelu(norm(double(x, level[0][0]), level[0][1])), level[0][3])
        half = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
        expected = [
            last(four, level[0]),
            last(double(x, level[1][0]), level[1]),
            last(x, level[2]),
            last(half, level[3]),
        ]
        expected.append(expected[-1][:, :, ::2, ::2])
    shapes = [tuple(out.shape[2:]) for out in outs]
    assert shapes == [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
    for out, by_hand in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, by_hand, atol=1e-5, rtol=1e-5)


def test_mistakes():
    with pytest.raises(ValueError, match='with_cls_token=False'):
        AdPEViT(arch=TINY, window_size=4)
    with pytest.raises(ValueError, match='with_cls_token=True'):
        AdPEViT(arch=TINY, with_cls_token=False)
    with pytest.raises(ValueError, match='global_blocks must name'):
        vitdet(global_blocks=[4])
    with pytest.raises(ValueError, match='scale_factors may be'):
        SimpleFeaturePyramid(16, scale_factors=[3])
