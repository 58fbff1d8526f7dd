"""Encoders of timm and transformers compute here what they compute there."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import timm
import torch
import transformers
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from adpe_mm.checkpoints import backbone_config, describe, read_checkpoint, read_encoder
from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'mae_to_adpe.py'
SIZES = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2)
HF = dict(
    image_size=32, patch_size=8, hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
    layer_norm_eps=1e-6, attn_implementation='eager',
)  # fmt: skip
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def random(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for param in model.parameters():
        nn.init.normal_(param, std=0.1)
    return model.eval()


def ours(weights, out_type='raw') -> torch.Tensor:
    config = dict(backbone_config(dict(state_dict=weights)), out_type=out_type)
    config['arch']['num_heads'] = 3
    model = MODELS.build(config).eval()
    model.load_pretrained(weights)
    return model(IMAGES)[-1]


def same(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    'options',
    [
        dict(num_classes=7),
        dict(num_classes=0, init_values=0.3),  # layer scale, as DINOv2
        dict(num_classes=0, no_embed_class=True),  # as DeiT III
    ],
)
def test_timm(options):
    theirs = random(VisionTransformer(**SIZES, **options))
    encoder = read_encoder(dict(theirs.state_dict()))
    assert not encoder.is_mae
    assert set(encoder.left) == ({'head.weight', 'head.bias'} if options['num_classes'] else set())
    same(ours(encoder.weights), theirs.forward_features(IMAGES))


def test_fine_tuned_mae():
    """facebookresearch/mae's models_vit.py with global_pool: no final norm, fc_norm of the mean."""
    theirs = random(VisionTransformer(**SIZES, num_classes=7, global_pool='avg'))
    weights = theirs.state_dict()
    assert 'fc_norm.weight' in weights and 'norm.weight' not in weights
    encoder = read_encoder(dict(model=weights, epoch=99))
    assert set(encoder.left) == {'head.weight', 'head.bias'}
    expected = theirs.forward_head(theirs.forward_features(IMAGES), pre_logits=True)
    same(ours(encoder.weights, 'avg_featmap'), expected)


@pytest.mark.parametrize('whole', [False, True])
def test_vit_of_transformers(whole):
    config = transformers.ViTConfig(**HF, intermediate_size=96)
    kind = transformers.ViTForImageClassification if whole else transformers.ViTModel
    theirs = random(kind(config))
    encoder = saved(theirs)
    assert set(encoder.left) == {
        f'{"classifier" if whole else "pooler.dense"}.{kind}' for kind in ('weight', 'bias')
    }
    body = theirs.vit if whole else theirs
    same(ours(encoder.weights), body(IMAGES).last_hidden_state)


def test_mae_of_transformers():
    decoder = dict(
        decoder_num_hidden_layers=1, decoder_hidden_size=32, decoder_num_attention_heads=2,
        decoder_intermediate_size=64, mask_ratio=0.0,
    )  # fmt: skip
    config = transformers.ViTMAEConfig(**HF, **decoder, intermediate_size=96)
    theirs = random(transformers.ViTMAEForPreTraining(config))
    encoder = saved(theirs)
    assert encoder.is_mae and all(name.startswith('decoder') for name in encoder.left)
    in_order = torch.arange(16.0).expand(2, 16)  # nothing is masked or shuffled
    same(ours(encoder.weights), theirs.vit(IMAGES, noise=in_order).last_hidden_state)


def test_dinov2_of_transformers():
    config = transformers.Dinov2Config(**HF, mlp_ratio=2, layerscale_value=0.5)
    theirs = random(transformers.Dinov2Model(config))
    encoder = saved(theirs)
    assert set(encoder.left) == {'embeddings.mask_token'}
    assert encoder.notes == ['4 layer scales multiplied into the layers before them']
    same(ours(encoder.weights), theirs(IMAGES).last_hidden_state)


def saved(model):
    """What `save_pretrained` writes, which has other names than the model in memory."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return read_encoder(read_checkpoint(f'{folder}/model.safetensors'))


def test_the_teacher_of_dino():
    teacher, student = (random(VisionTransformer(**SIZES, num_classes=0)) for _ in range(2))
    with torch.no_grad():
        student.cls_token.zero_()
    checkpoint = {
        who: {
            **{f'module.backbone.{name}': v for name, v in model.state_dict().items()},
            'module.head.mlp.0.weight': torch.zeros(2),
        }
        for who, model in (('student', student), ('teacher', teacher))
    }
    encoder = read_encoder(dict(checkpoint, epoch=3))
    assert encoder.left == {'head.mlp.0.weight': 'of the classes'}
    same(ours(encoder.weights), teacher.forward_features(IMAGES))


def test_the_blocks_of_dinov2_are_in_chunks():
    theirs = random(VisionTransformer(**SIZES, num_classes=0, init_values=1.0))
    weights = {
        name.replace('blocks.1.', 'blocks.1.1.').replace('blocks.0.', 'blocks.0.0.'): value
        for name, value in theirs.state_dict().items()
    }
    weights['mask_token'] = torch.zeros(1, 48)
    same(ours(read_encoder(weights).weights), theirs.forward_features(IMAGES))


@pytest.mark.parametrize(
    'options, what',
    [
        (dict(reg_tokens=4), 'register tokens'),
        (dict(pre_norm=True), 'a norm before its blocks'),
        (dict(qk_norm=True), 'norms of queries and keys'),
        (dict(mlp_layer=timm.layers.SwiGLU), 'gated feed-forward|no counterpart'),
    ],
)
def test_what_cannot_be_had_exactly_is_refused(options, what):
    theirs = VisionTransformer(**SIZES, num_classes=0, **options)
    with pytest.raises(UserError, match=what) as error:
        read_encoder(dict(theirs.state_dict()))
    assert '\n' not in str(error.value)


def run(*arguments):
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command(tmp_path):
    theirs = random(VisionTransformer(**SIZES, num_classes=3, init_values=0.3))
    weights = dict(theirs.state_dict(), teacher_temperature=torch.zeros(1))
    torch.save(weights, tmp_path / 'timm.pth')
    done = run(tmp_path / 'timm.pth', tmp_path / 'ours.safetensors')
    assert done.returncode == 1 and '--allow' in done.stderr and 'Traceback' not in done.stderr
    advice = ['--allow', 'teacher_temperature']  # as the sentence says
    done = run(tmp_path / 'timm.pth', tmp_path / 'ours.safetensors', *advice, '--method', 'DINO')
    assert done.returncode == 0, done.stderr
    assert 'head.weight: of the classes, left behind' in done.stdout
    assert '4 layer scales multiplied' in done.stdout
    said = describe(tmp_path / 'ours.safetensors')
    assert (said['method'], said['position'], said['img_size']) == ('DINO', 'ape', 32)
    done = run(tmp_path / 'timm.pth', tmp_path / 'ours.pth', *advice)
    assert describe(tmp_path / 'ours.pth')['method'] == 'unknown' and '--method' in done.stdout
