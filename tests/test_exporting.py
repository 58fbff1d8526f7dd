"""Exported files give what the network gives in its own library, at batch sizes not traced."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

import adpe_mm
from adpe_mm import exporting
from adpe_mm.exporting import export_model, load_exportable
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config, tiny_model

TOOL = Path(__file__).parents[1] / 'tools' / 'model_converters' / 'export_model.py'
TINY = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
POSITIONS = {
    'ape': dict(position='ape'),
    'bias': dict(position='ape', rel_pos_bias=True),
    'bucket': dict(position='rpe', rpe_lookup='bucket'),
    'interpolate': dict(position='rpe', rpe_lookup='interpolate'),
}
MEAN, STD = [10, 20, 30], [40, 50, 60]
H, W = 32, 48


def images(batch: int) -> torch.Tensor:
    """(batch, 3, H, W) RGB, whole numbers from 0 to 255."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(256, (batch, 3, H, W), generator=generator, dtype=torch.uint8)


def config_of(kind: str, positions: str) -> dict:
    backbone = dict(
        type='adpe_mm.AdPEViT', arch=TINY, img_size=(H, W), patch_size=4, **POSITIONS[positions]
    )
    if kind == 'classifier':
        return dict(
            type='ImageClassifier',
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=True),
            backbone=dict(backbone, out_type='avg_featmap', final_norm=False),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=24),
        )
    norm = dict(type='SyncBN', requires_grad=True)
    loss = dict(type='CrossEntropyLoss', use_sigmoid=False)
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, size=(H, W)
        ),
        backbone=dict(backbone, out_type='featmap', out_indices=(0, 0, 1, 1), final_norm=False),
        neck=dict(type='Feature2Pyramid', embed_dim=24, rescales=[4, 2, 1, 0.5], norm_cfg=norm),
        decode_head=dict(
            type='UPerHead', in_channels=[24] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
            channels=12, num_classes=5, norm_cfg=norm, align_corners=False, loss_decode=loss,
        ),
        auxiliary_head=dict(
            type='FCNHead', in_channels=24, in_index=2, channels=8, num_convs=1, num_classes=5,
            norm_cfg=norm, align_corners=False, loss_decode=loss,
        ),
        test_cfg=dict(mode='slide', crop_size=(H, W), stride=(20, 20)),
    )  # fmt: skip


def trained(kind: str, positions: str, folder: Path) -> tuple[nn.Module, Path]:
    """A network with weights that let every part matter, and its checkpoint."""
    if kind == 'backbone':
        mode = 'coordinate' if positions == 'interpolate' else None
        position = POSITIONS[positions]['position']
        options = dict(img_size=(H, W))
        model, config = (
            tiny_model(position, mode, **options),
            tiny_config(position, mode, **options),
        )
        config['data_preprocessor'] = dict(type='adpe_mm.MultiCropPreprocessor', mean=MEAN, std=STD)
    else:
        config = config_of(kind, positions)
        scope = dict(classifier='mmpretrain', upernet='mmseg')[kind]
        with DefaultScope.overwrite_default_scope(scope):
            model = MODELS.build(ConfigDict(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
        for name, buffer in model.named_buffers():
            if name.endswith('running_var'):
                buffer.uniform_(0.5, 2)
    path = folder / f'{kind}.pth'
    meta = dict(cfg=Config(dict(model=config)).pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model.eval(), path


@torch.no_grad()
def of_the_library(kind: str, model: nn.Module, batch: int) -> torch.Tensor:
    """What the network says of images as its own library loads them."""
    rgb = images(batch)
    if kind == 'backbone':
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return model.extract_feat((rgb - mean) / std)[0]
    bgr = rgb.flip(1)
    if kind == 'classifier':
        return model(model.data_preprocessor(dict(inputs=bgr))['inputs'])
    model.test_cfg.mode = 'whole'
    samples = model.test_step(dict(inputs=list(bgr), data_samples=[segmentation() for _ in rgb]))
    return torch.stack([sample.seg_logits.data for sample in samples])


def segmentation():
    from mmseg.structures import SegDataSample

    shapes = dict(ori_shape=(H, W), img_shape=(H, W), pad_shape=(H, W), flip=False)
    return SegDataSample(metainfo=dict(shapes, img_path='x'))


def run_onnx(path: Path, batch: int) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {'images': images(batch).numpy().astype(np.float32)})
    return torch.from_numpy(found)


def run_pt2(path: Path, batch: int) -> torch.Tensor:
    with torch.no_grad():
        (found,) = torch.export.load(path).module()(images(batch).float())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind, positions',
    [
        *(('backbone', positions) for positions in POSITIONS if positions != 'bias'),
        *(('classifier', positions) for positions in POSITIONS),
        *(('upernet', positions) for positions in POSITIONS),
    ],
)
@pytest.mark.parametrize('suffix', ['onnx', 'pt2'])
def test_equal_outputs(suffix, kind, positions, tmp_path):
    run, tolerance = dict(onnx=(run_onnx, 1e-4), pt2=(run_pt2, 1e-5))[suffix]
    model, path = trained(kind, positions, tmp_path)
    out = tmp_path / 'out' / f'model.{suffix}'
    done = export_model(path, out)
    assert done.shape == (3, H, W) and done.difference <= tolerance
    assert list(done.outputs) == ['features' if kind == 'backbone' else 'logits']
    for batch in (1, 5):
        expected = of_the_library(kind, model, batch)
        assert expected.std() > 0.05
        found = run(out, batch)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert [file.name for file in out.parent.iterdir()] == [out.name]


@pytest.mark.slow
@pytest.mark.parametrize('positions', ['ape', 'bucket', 'interpolate'])
def test_another_size_and_kind_of_features(positions, tmp_path):
    """Of a task the backbone alone; so many patches are looked up in another way."""
    model, path = trained('upernet', positions, tmp_path)
    out = tmp_path / 'x.onnx'
    done = export_model(path, out, size=(72, 64), features='featmap')
    assert done.outputs == {f'features_{i}': (3, 24, 18, 16) for i in range(4)}


@pytest.mark.slow
def test_what_it_is_stays_with_it(tmp_path):
    _, path = trained('backbone', 'ape', tmp_path)
    export_model(path, tmp_path / 'x.pt2')
    export_model(path, tmp_path / 'x.onnx')
    extra = {'adpe_mm.json': ''}
    torch.export.load(tmp_path / 'x.pt2', extra_files=extra)
    session = onnxruntime.InferenceSession(tmp_path / 'x.onnx')
    for text in (extra['adpe_mm.json'], session.get_modelmeta().custom_metadata_map['adpe_mm']):
        assert json.loads(text) == adpe_mm.checkpoints.describe(path)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    _, path = trained('backbone', 'ape', tmp_path)
    write, open_file, tolerance = exporting.FORMATS['.pt2']

    def open_worse(file):
        run = open_file(file)
        return lambda images: [value + 2 * tolerance * value.abs().max() for value in run(images)]

    monkeypatch.setitem(exporting.FORMATS, '.pt2', (write, open_worse, tolerance))
    with pytest.raises(RuntimeError, match='differ from those of the network by .* not written'):
        export_model(path, tmp_path / 'out' / 'x.pt2')
    assert not list((tmp_path / 'out').iterdir())


def test_mistakes(tmp_path):
    model, path = trained('classifier', 'ape', tmp_path)
    with pytest.raises(ValueError, match=r'must end with .onnx or .pt2'):
        export_model(path, tmp_path / 'x.trt')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'converted.pth')
    with pytest.raises(ValueError, match='holds no config.*--features'):
        load_exportable(tmp_path / 'converted.pth')
    detector = {f'backbone.{n}': v for n, v in model.backbone.state_dict().items()}
    detector['roi_head.x'] = torch.zeros(1)
    torch.save(dict(state_dict=detector), tmp_path / 'detector.pth')
    with pytest.raises(ValueError, match='is of detection.*--features featmap'):
        load_exportable(tmp_path / 'detector.pth')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        load_exportable(tmp_path / 'none.pth')


@pytest.mark.slow
def test_command(tmp_path):
    _, path = trained('classifier', 'interpolate', tmp_path)
    command = [sys.executable, TOOL, path, tmp_path / 'x.pt2', '--size', '16']
    done = subprocess.run(command, capture_output=True, text=True)
    assert 'images (batch, 3, 16, 16) -> logits (batch, 5)\ncompared' in done.stdout, done.stderr
    assert (tmp_path / 'x.pt2').is_file()
    command[3] = tmp_path / 'x.tflite'
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and 'must end with' in done.stderr
    assert 'Traceback' not in done.stderr
