"""Whatever loads a checkpoint looks at it first: a flipped byte is a sentence, never a weight."""

import re
import runpy
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from torch import nn

from adpe_mm import get_model
from adpe_mm.checkpoints import write_checkpoint
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT
from tests.helpers import tiny_config, tiny_model
from tests.test_engine.toy import ADPE, draw, make_runner

ROOT = Path(__file__).parents[2]
ARCH = tiny_config()['backbone']['arch']


@pytest.fixture
def flipped(tmp_path):
    """A checkpoint of pretraining, in which one bit of a weight has changed."""
    path = tmp_path / 'flipped.pth'
    write_checkpoint(dict(state_dict=tiny_model().state_dict(), meta=dict(iter=1)), path)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith('data/2'))
        place = archive.getinfo(name).header_offset + 200
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch takes it
    return path


def assert_refused(said: str, path: Path) -> None:
    assert f"'{path}' is damaged" in said and 'copy it anew' in said
    assert '\n' not in said.strip() and not re.search('weights_only=|trust|unsafe', said)


def of_ours(path):
    AdPEViT(arch=ARCH, img_size=16, patch_size=4, init_cfg=pretrained(path)).init_weights()


def of_a_library(path):
    class Other(BaseModule):
        def __init__(self):
            super().__init__(pretrained(path))
            self.layer = nn.Linear(2, 2)

    Other().init_weights()


def pretrained(path):
    return dict(type='Pretrained', checkpoint=str(path))


@pytest.mark.parametrize(
    'load',
    [
        get_model,
        of_ours,
        of_a_library,
        lambda path: load_checkpoint(nn.Linear(2, 2), str(path)),
    ],
    ids=['get_model', 'init_cfg of ours', 'init_cfg of a library', "mmengine's function"],
)
def test_in_python(flipped, load):
    with pytest.raises(UserError) as refused:
        load(flipped)
    assert_refused(str(refused.value), flipped)


def test_a_run_that_begins_from_it(tmp_path, flipped):
    images = draw(tmp_path / 'images')
    runner = make_runner(tmp_path / 'run', images, model=ADPE, options=dict(load_from=str(flipped)))
    with pytest.raises(UserError) as refused:
        runner.train()
    assert_refused(str(refused.value), flipped)


PRETRAIN, CLS = 'configs/pretrain/adpe_vit-mini_mini.py', 'configs/cls/adpe-vit-mini_mini.py'


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('model_converters/official_to_adpe.py', ['CHECKPOINT', 'OUT']),
        ('model_converters/mae_to_adpe.py', ['CHECKPOINT', 'OUT']),
        ('model_converters/adpe_to_timm.py', ['CHECKPOINT', 'OUT']),
        ('model_converters/adpe_to_mmpretrain.py', ['CHECKPOINT', 'OUT']),
        ('model_converters/adpe_to_transformers.py', ['CHECKPOINT', 'OUT', '--num-heads', '2']),
        ('model_converters/publish_model.py', ['CHECKPOINT', 'OUT']),
        ('model_converters/export_model.py', ['CHECKPOINT', 'OUT']),
        ('analysis_tools/describe_checkpoint.py', ['CHECKPOINT']),
        ('embed.py', ['CHECKPOINT', 'IMAGES', '--out', 'OUT']),
        ('probe.py', ['CHECKPOINT', 'IMAGES']),
        ('visualizations/reconstruct.py', [PRETRAIN, 'CHECKPOINT', 'IMAGES', '--out', 'OUT']),
        ('visualizations/predict.py', [CLS, 'CHECKPOINT', 'IMAGES', '--out', 'OUT']),
    ],
)
def test_commands(tmp_path, monkeypatch, flipped, tool, arguments):
    out = tmp_path / ('out.onnx' if 'export' in tool else 'out.pth')
    places = dict(CHECKPOINT=flipped, OUT=out, IMAGES=tmp_path / 'images')
    draw(tmp_path / 'images')
    monkeypatch.chdir(ROOT)
    words = [str(places.get(word, word)) for word in arguments]
    monkeypatch.setattr(sys, 'argv', [tool, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert_refused(str(ended.value.code), flipped)
    assert not out.exists()
