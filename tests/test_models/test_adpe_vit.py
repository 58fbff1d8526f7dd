import pytest
import torch
from mmpretrain.models import VisionTransformer

from adpe_mm.models import AdPEViT

TINY = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)


def tiny_vit(**kwargs) -> AdPEViT:
    vit = AdPEViT(**dict(dict(arch=TINY, img_size=32, patch_size=8), **kwargs))
    vit.init_weights()
    return vit.eval()


def randomise(module):
    with torch.no_grad():
        for param in module.parameters():
            param.normal_(std=0.2)


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap', 'featmap', 'raw'])
@pytest.mark.parametrize('size', [(32, 32), (40, 24), (33, 47)])
def test_equals_mmpretrain_with_the_same_state_dict(out_type, size):
    final_norm = out_type != 'avg_featmap'
    ours = tiny_vit(out_type=out_type, final_norm=final_norm, out_indices=[0, 2])
    randomise(ours)
    theirs = VisionTransformer(
        arch=TINY,
        img_size=32,
        patch_size=8,
        out_type=out_type,
        final_norm=final_norm,
        out_indices=[0, 2],
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.eval()
    images = torch.randn(2, 3, *size)
    for mine, other in zip(ours(images), theirs(images), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('arch', ['b', 'l'])
def test_full_size_state_dict_is_mmpretrains(arch):
    with torch.device('meta'):
        ours = AdPEViT(arch=arch).state_dict()
        theirs = VisionTransformer(arch=arch, img_size=224, patch_size=16).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


@pytest.mark.parametrize(
    'arch, millions', [('ti', 5.5), ('s', 21.7), ('b', 85.8), ('l', 303.3), ('h', 630.8)]
)
def test_published_sizes(arch, millions):
    # ViT and DeiT papers, without the classification head.
    with torch.device('meta'):
        vit = AdPEViT(arch=arch)
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert vit.patch_size == (14 if arch == 'h' else 16)


def test_shapes_of_outputs_with_iRPE_and_any_size():
    images = torch.randn(2, 3, 25, 40)  # 4 x 5 patches after padding
    shapes = dict(cls_token=(2, 24), avg_featmap=(2, 24), featmap=(2, 24, 4, 5), raw=(2, 21, 24))
    for out_type, shape in shapes.items():
        outs = tiny_vit(position='rpe', out_type=out_type, out_indices=(0, -1))(images)
        assert [tuple(out.shape) for out in outs] == [shape, shape]


def test_positions_of_a_checkpoint_are_resized():
    small, large = tiny_vit(), tiny_vit(img_size=(48, 64))
    large.load_state_dict(small.state_dict())
    images = torch.randn(1, 3, 48, 64)
    torch.testing.assert_close(large(images)[0], small(images)[0])  # resized at load or at run
    wide = tiny_vit(img_size=(16, 64))
    with pytest.raises(ValueError, match='square grid'):
        small.load_state_dict(dict(wide.state_dict(), pos_embed=torch.zeros(1, 12, 24)))


def test_unscaled_query_is_the_scaled_one_with_a_larger_table():
    scaled, unscaled = tiny_vit(position='rpe'), tiny_vit(position='rpe', rpe_scaled_query=False)
    randomise(scaled)
    images = torch.randn(1, 3, 32, 32)
    weights = {n: v * 8**-0.5 if n.endswith('table') else v for n, v in scaled.state_dict().items()}
    unscaled.load_state_dict(weights)
    torch.testing.assert_close(unscaled(images)[0], scaled(images)[0], atol=1e-5, rtol=1e-4)


def test_layer_depths():
    vit = tiny_vit(position='rpe', out_type='avg_featmap')
    depth = {
        name: vit.get_layer_depth('backbone.' + name, 'backbone.')
        for name, _ in vit.named_parameters()
    }
    assert depth['cls_token'] == depth['pos_embed'] == (0, 5)
    assert depth['patch_embed.projection.weight'] == (0, 5)
    assert depth['layers.0.attn.rpe.table'] == (1, 5)
    assert depth['layers.2.ffn.layers.1.bias'] == (3, 5)
    assert depth['ln2.weight'] == (4, 5)
    assert vit.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='giant'), 'unknown arch'),
        (dict(arch=dict(embed_dims=8)), 'must also give'),
        (dict(position='learned'), 'position must be'),
        (dict(out_type='tokens'), 'out_type must be'),
        (dict(out_indices=3), 'out_indices'),
        (dict(position='rpe', rpe_lookup='cubic'), 'rpe_lookup'),
    ],
)
def test_mistakes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny_vit(**kwargs)


@pytest.mark.slow
@pytest.mark.parametrize('lookup', ['bucket', 'interpolate'])
@pytest.mark.parametrize('size', [(16, 24), (72, 72)])  # multiplied out, and by axes or gathered
def test_export(lookup, size):
    """torch.export gives the same network, and leaves no imagined tensor behind in this one."""
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    model = AdPEViT(
        arch, img_size=size, patch_size=4, position='rpe', rpe_lookup=lookup, out_type='avg_featmap'
    )
    model.init_weights()
    for layer in model.layers:
        torch.nn.init.normal_(layer.attn.rpe.table)
    model.eval()
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        exported = torch.export.export(model, (images,), strict=False).module()
        expected = model(images)[0]
        torch.testing.assert_close(exported(images)[0], expected, rtol=1e-5, atol=1e-5)
    assert type(expected) is torch.Tensor
