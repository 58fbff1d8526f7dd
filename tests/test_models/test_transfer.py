"""A pretrained backbone arrives whole, or not at all."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.models import MAEViT, VisionTransformer

from adpe_mm.checkpoints import describe_pretraining, read_checkpoint
from adpe_mm.models import AdPEViT
from tests.helpers import VARIANTS, tiny_model

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def save(model, path):
    torch.save(dict(meta=dict(epoch=1), state_dict=model.state_dict()), path)
    return dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_every_variant_arrives_in_every_form_of_backbone(position, mode, tmp_path):
    pretrained = tiny_model(position, mode, img_size=16)
    init_cfg = save(pretrained, tmp_path / 'pretrained.pth')
    lookup = pretrained.backbone.rpe_lookup
    for form in (
        dict(out_type='avg_featmap', final_norm=False),
        dict(out_type='featmap', final_norm=False, out_indices=[0, 1], img_size=32),
        dict(out_type='featmap', final_norm=False, with_cls_token=False, window_size=2),
        dict(out_type='cls_token', frozen_stages=2),
    ):
        settings = dict(img_size=16, patch_size=4, position=position, rpe_lookup=lookup) | form
        model = AdPEViT(arch=ARCH, init_cfg=init_cfg, **settings)
        model.init_weights()
        expected = pretrained.backbone.state_dict()
        for name, value in model.state_dict().items():
            if name.startswith('ln2.'):
                assert torch.equal(value, torch.full_like(value, float('weight' in name)))
            elif name == 'pos_embed':
                grid = value[:, value.shape[1] % 4 :]  # without cls
                if 'img_size' not in form:
                    assert torch.equal(grid, expected[name][:, 1:])
            else:
                assert torch.equal(value, expected[name]), name


def test_what_does_not_fit_is_named(tmp_path):
    def load(init_cfg, **kwargs):
        AdPEViT(arch=ARCH, img_size=16, patch_size=4, init_cfg=init_cfg, **kwargs).init_weights()

    ape = save(tiny_model('ape', None, img_size=16), tmp_path / 'ape.pth')
    rpe = save(tiny_model('rpe', None, img_size=16), tmp_path / 'rpe.pth')
    with pytest.raises(ValueError, match=r'2 missing: layers.0.attn.rpe.table'):
        load(ape, position='rpe')
    with pytest.raises(ValueError, match=r'2 unexpected: layers.0.attn.rpe.table'):
        load(rpe, position='ape')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        load(dict(type='Pretrained', checkpoint='none.pth'))
    torch.save(dict(state_dict={}, code=print), tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='weights only'):
        load(dict(type='Pretrained', checkpoint=str(tmp_path / 'code.pth')))


def test_mmpretrain_weights_arrive(tmp_path):
    init_default_scope('mmpretrain')
    other = VisionTransformer(arch=ARCH, img_size=16, patch_size=4)
    other.init_weights()
    torch.save(other.state_dict(), tmp_path / 'plain.pth')
    model = AdPEViT(
        arch=ARCH,
        img_size=16,
        patch_size=4,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth')),
    )
    model.init_weights()
    images = torch.randn(2, 3, 16, 16)
    other.eval()
    torch.testing.assert_close(model.eval()(images)[0], other(images)[0])


def test_frozen_stages():
    model = AdPEViT(arch=ARCH, img_size=16, patch_size=4, frozen_stages=1)
    model.train()
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    assert {'cls_token', 'pos_embed', 'patch_embed.projection.bias'} <= frozen
    assert all(n.startswith(('cls', 'pos', 'patch', 'layers.0.')) for n in frozen)
    assert not model.layers[0].training and model.layers[1].training
    model = AdPEViT(arch=ARCH, img_size=16, patch_size=4, frozen_stages=2)
    assert not any(param.requires_grad for param in model.parameters())


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_origin_is_told_by_the_arrays(position, mode):
    described = describe_pretraining(tiny_model(position, mode).state_dict())
    name = position.upper()
    assert described == dict(
        method='AdPE' if mode else 'MAE+', variant=f'{name} {mode}' if mode else name
    )
    mae = MAEViT(arch=ARCH, img_size=16, patch_size=4).state_dict()
    mae = {f'backbone.{name}': value for name, value in mae.items()}
    assert describe_pretraining(mae) == dict(method='MAE', variant=None)


def test_address(tmp_path, monkeypatch):
    import http.server
    import threading

    save(tiny_model(), tmp_path / 'ours.pth')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        assert 'state_dict' in read_checkpoint(f'{address}/ours.pth')
        with pytest.raises(FileNotFoundError, match='cannot download'):
            read_checkpoint(f'{address}/none.pth')
        server.shutdown()
    assert 'state_dict' in read_checkpoint(f'{address}/ours.pth')  # the copy


class Gadget:
    """Pickles as the call of what getattr finds."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return np.ones(1).tofile, (str(self.path),)  # pickled as getattr(array, 'tofile')


def test_no_code_runs_even_through_getattr(tmp_path):
    torch.save(dict(state_dict={}, gadget=Gadget(tmp_path / 'made')), tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='weights only'):
        read_checkpoint(tmp_path / 'code.pth')
    assert not (tmp_path / 'made').exists()
    torch.load(tmp_path / 'code.pth', weights_only=False)
    assert (tmp_path / 'made').exists()  # the gadget works
