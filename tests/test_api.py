"""Networks by name and from checkpoints: what they are, what is refused, and that it is quiet."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import adpe_mm
from adpe_mm.models import AdPEViT
from adpe_mm.registry import MODELS
from tests.helpers import VARIANTS, tiny_config, tiny_model

ROOT = Path(__file__).parents[1]
IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
TINY = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def randomised(model: nn.Module) -> nn.Module:
    """With weights that let every part matter."""
    with torch.no_grad():
        for param in model.parameters():
            param.normal_(std=0.2)
    return model.eval()


def save(path: Path, model: nn.Module, config: dict | None = None) -> Path:
    """A checkpoint as mmengine writes it, with the text of its config, or as a converter does."""
    meta = dict(cfg=Config(dict(model=config, lr=1e-3)).pretty_text) if config else {}
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def classifier_config(**backbone) -> dict:
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[10, 20, 30], std=[40, 50, 60], to_rgb=True
        ),
        backbone=dict(
            type='adpe_mm.AdPEViT', arch=TINY, img_size=(16, 24), patch_size=4,
            out_type='avg_featmap', final_norm=False, drop_path_rate=0.1,
            init_cfg=dict(type='Pretrained', checkpoint='none.pth', prefix='backbone.'),
            **backbone,
        ),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=24),
    )  # fmt: skip


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_of_pretraining(position, mode, tmp_path):
    model = randomised(tiny_model(position, mode))
    path = save(tmp_path / 'epoch_1.pth', model, tiny_config(position, mode))
    found = adpe_mm.get_model(path, out_type='raw')
    assert type(found) is AdPEViT and not found.training
    assert found.position == position
    assert position == 'ape' or found.rpe_lookup == model.backbone.rpe_lookup
    torch.testing.assert_close(found(IMAGES)[0], model.extract_feat(IMAGES)[0], rtol=0, atol=0)


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_without_a_config(position, mode, tmp_path):
    model = randomised(tiny_model(position, mode, img_size=16))
    path = save(tmp_path / 'converted.pth', model)
    if position == 'ape':
        with pytest.raises(ValueError, match='state arch.*num_heads'):
            adpe_mm.get_model(path)
    found = adpe_mm.get_model(path, out_type='raw', arch=dict(num_heads=3))
    images = IMAGES[..., :16]
    torch.testing.assert_close(found(images)[0], model.extract_feat(images)[0], rtol=0, atol=0)


def test_heads_of_a_known_architecture(tmp_path):
    model = randomised(AdPEViT('ti', img_size=32))
    torch.save(model.state_dict(), tmp_path / 'backbone.pth')  # no prefix, no meta
    found = adpe_mm.get_model(tmp_path / 'backbone.pth')
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(found(images)[0], model(images)[0], rtol=0, atol=0)


def test_of_a_task(tmp_path):
    init_default_scope('mmpretrain')
    config = classifier_config(position='rpe', rpe_lookup='interpolate')
    model = randomised(MODELS.build(config))
    path = save(tmp_path / 'epoch_1.pth', model, config)
    found = adpe_mm.get_model(path)
    torch.testing.assert_close(found(IMAGES)[0], model.backbone(IMAGES)[0], rtol=0, atol=0)
    assert found.data_preprocessor.mean.flatten().tolist() == [10, 20, 30]
    assert found.data_preprocessor.std.flatten().tolist() == [40, 50, 60]
    assert set(found.state_dict()) == set(model.backbone.state_dict())

    path = save(tmp_path / 'converted.pth', model)
    found = adpe_mm.get_model(path, img_size=(16, 24))  # the look-up is in the state dict
    torch.testing.assert_close(found(IMAGES)[0], model.backbone(IMAGES)[0], rtol=0, atol=0)

    weights = {n: v for n, v in model.state_dict().items() if not n.endswith('_extra_state')}
    torch.save(dict(state_dict=weights), path)  # of before it was
    with pytest.raises(ValueError, match="state rpe_lookup='bucket' or 'interpolate'"):
        adpe_mm.get_model(path, img_size=(16, 24))


def test_of_a_detector(tmp_path):
    options = dict(
        arch=TINY, img_size=32, patch_size=4, with_cls_token=False, final_norm=False,
        window_size=4, global_blocks=[1], out_type='featmap', decomposed_rpe=True,
    )  # fmt: skip
    model = nn.Module()
    model.backbone = AdPEViT(**options)
    randomised(model)
    config = dict(type='MaskRCNN', backbone=dict(type='adpe_mm.AdPEViT', **options))
    images = torch.randn(1, 3, 32, 32)
    found = adpe_mm.get_model(save(tmp_path / 'iter_1.pth', model, config))
    torch.testing.assert_close(found(images)[0], model.backbone(images)[0], rtol=0, atol=0)
    with pytest.raises(ValueError, match='state .*window_size=...'):
        adpe_mm.get_model(save(tmp_path / 'converted.pth', model))


def test_overrides(tmp_path):
    model = randomised(tiny_model('ape', 'coordinate', img_size=16))
    path = save(tmp_path / 'epoch_1.pth', model, tiny_config('ape', 'coordinate', img_size=16))
    larger = adpe_mm.get_model(path, img_size=32, out_type='featmap', out_indices=[0, 1])
    assert [x.shape for x in larger(torch.zeros(1, 3, 32, 32))] == [(1, 24, 8, 8)] * 2
    random = adpe_mm.get_model(path, pretrained=False)
    assert not torch.equal(random.cls_token, model.backbone.cls_token)


def test_by_name(tmp_path):
    names = adpe_mm.list_models()
    assert {'adpe_vit-s', 'adpe_vit-b', 'adpe_vit-l', 'maeplus_vit-b_ape'} <= set(names)
    model = adpe_mm.get_model('adpe_vit-ti', pretrained=False, img_size=32)
    assert model.embed_dims == 192 and model.rpe_lookup == 'interpolate' and not model.training
    # Random, but MAE's initialisation: no bias, and no constant weight.
    assert not model.layers[0].attn.qkv.bias.any() and model.layers[0].attn.qkv.weight.std() > 0
    torch.save(model.state_dict(), tmp_path / 'ti.pth')
    again = adpe_mm.get_model('adpe_vit-ti', pretrained=tmp_path / 'ti.pth', img_size=32)
    assert torch.equal(again.cls_token, model.cls_token)


def test_names_are_those_of_the_configs():
    """Positions and look-up of each named encoder are those of the config."""
    checked = 0
    for path in sorted((ROOT / 'configs' / 'pretrain').glob('*_1600e.py')):
        backbone = Config.fromfile(path).model.backbone
        with torch.device('meta'):
            model = adpe_mm.get_model(path.stem.removesuffix('_1600e'), pretrained=False)
            expected = AdPEViT(backbone.arch)
        assert model.position == backbone.position, path
        assert model.embed_dims == expected.embed_dims, path
        assert model.patch_size == expected.patch_size, path
        assert backbone.position == 'ape' or model.rpe_lookup == backbone.rpe_lookup, path
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize(
    'arguments, options, sentence',
    [
        (('adpe_vit-b',), {}, 'no weights of .* are published: say pretrained=False'),
        (('adpe_vit-x',), {}, r'no model and no checkpoint .*list_models\(\)'),
        (('none.pth',), {}, "there is no checkpoint 'none.pth'"),
        (('adpe_vit-b', False), dict(depth=3), r"no options \['depth'\]"),
        (('adpe_vit-b', False), dict(arch='x'), "unknown arch 'x'"),
        (('{}/ours.pth', 'x.pth'), {}, 'needs the name of a model'),
        (('{}/ours.pth',), dict(arch='b'), 'holds another network'),
        (('{}/other.pth',), {}, 'holds no Vision Transformer of this package: convert it'),
        (('adpe_vit-b', '{}/ours.pth'), {}, 'holds another network'),
    ],
)
def test_mistakes(arguments, options, sentence, tmp_path):
    save(tmp_path / 'ours.pth', tiny_model(), tiny_config())
    torch.save(dict(model=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    arguments = [a.format(tmp_path) if isinstance(a, str) else a for a in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        adpe_mm.get_model(*arguments, **options)
    assert '\n' not in str(caught.value)


def test_a_stored_config_runs_no_code(tmp_path):
    model = tiny_model('rpe', 'coordinate', img_size=16)
    cfg = f"model = dict(backbone=open({str(tmp_path / 'written')!r}, 'w'))"
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg)), tmp_path / 'x.pth')
    assert adpe_mm.get_model(tmp_path / 'x.pth').rpe_lookup == 'interpolate'  # of the arrays
    assert not (tmp_path / 'written').exists()


def run(code: str, *arguments) -> subprocess.CompletedProcess:
    # In a new environment Python compiles the libraries now, and warns of invalid escapes in them.
    return subprocess.run(
        [sys.executable, '-W', 'ignore::SyntaxWarning', '-c', code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_nothing_is_printed(tmp_path):
    path = save(tmp_path / 'epoch_1.pth', tiny_model(), tiny_config())
    code = (
        'import sys, numpy, adpe_mm; model = adpe_mm.get_model(sys.argv[1]);'
        "adpe_mm.get_model('adpe_vit-ti', pretrained=False);"
        "adpe_mm.extract_features(model, numpy.zeros((2, 30, 40, 3), 'uint8'))"
    )
    done = run(code, path)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.slow
def test_torch_hub(tmp_path):
    path = save(tmp_path / 'epoch_1.pth', tiny_model(), tiny_config())
    code = (
        'import sys, torch; here, path = sys.argv[1:]\n'
        "model = torch.hub.load(here, 'adpe_vit_ti', source='local', pretrained=False)\n"
        'print(model.embed_dims, model.position)\n'
        "print(torch.hub.load(here, 'get_model', path, source='local').embed_dims)\n"
        'import hubconf\n'
        "print(*(n for n, entry in vars(hubconf).items() if n[0] != '_' and callable(entry)))"
    )
    done = run(code, ROOT, path)
    lines = done.stdout.splitlines()
    assert lines[:2] == ['192 rpe', '24'], done.stderr
    names = [name.replace('-', '_') for name in adpe_mm.list_models()]
    entries = {*names, 'get_model'}
    assert set(lines[2].split()) == entries


def test_mmpretrain_finds_networks():
    from mmpretrain import get_model, list_models

    adpe_mm.register_models()
    adpe_mm.register_models()  # again does no harm
    assert {'adpe_vit-b_400e', 'adpe-vit-b_100e_in1k'} <= set(list_models('adpe'))
    arch = dict(TINY, _delete_=True)
    model = get_model(
        'adpe-vit-b-ape_100e_in1k', backbone=dict(arch=arch), head=dict(in_channels=24)
    )
    assert type(model.backbone) is AdPEViT and model.backbone.embed_dims == 24
