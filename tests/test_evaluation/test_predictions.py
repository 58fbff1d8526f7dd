"""predict.py draws over the pixels that the network saw, and finds labels in bounded memory."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from PIL import Image
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from adpe_mm.evaluation.drawing import as_rgb
from adpe_mm.evaluation.prediction_files import Masks, NamedImage, find_named, name_images
from adpe_mm.evaluation.predictions import Predictor, enlarge, keep_labels_only, label_map
from adpe_mm.registry import MODELS
from tests.helpers import save_turned

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_enlarged_masks_are_those_of_every_pixel():
    classes = torch.randint(0, 9, (1, 6, 5))
    sample = SegDataSample(pred_sem_seg=PixelData(data=classes))
    enlarge(sample, 3)
    enlarged = sample.pred_sem_seg.data
    assert enlarged.shape == (1, 18, 15)
    for row in range(3):
        for column in range(3):
            assert torch.equal(enlarged[:, row::3, column::3], classes)


def test_enlarged_boxes_are_those_of_the_enlarged_masks():
    masks = torch.zeros(2, 8, 9, dtype=torch.bool)
    masks[0, 1:4, 2:7] = masks[1, 5:8, 0:3] = True
    ends = torch.tensor([0.0, 0.0, 1.0, 1.0])  # torchvision's boxes end at the last pixel
    instances = InstanceData(bboxes=masks_to_boxes(masks) + ends, masks=masks)
    sample = DetDataSample(pred_instances=instances)
    enlarge(sample, 4)
    assert sample.pred_instances.masks.shape == (2, 32, 36)
    boxes = masks_to_boxes(sample.pred_instances.masks) + ends
    assert torch.equal(sample.pred_instances.bboxes, boxes)


def test_boxes_without_masks():
    sample = DetDataSample(pred_instances=InstanceData(bboxes=torch.tensor([[1.0, 2, 3, 4]])))
    enlarge(sample, 2)
    assert sample.pred_instances.bboxes.tolist() == [[2, 4, 6, 8]]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(61, 83), (9, 70), (20, 30), (5, 4)])
def test_labels_are_those_of_all_logits_at_once(size, align_corners):
    logits = torch.randn(12, 20, 30)
    logits[7] = logits[3]  # ties
    whole = F.interpolate(logits[None], size, mode='bilinear', align_corners=align_corners)
    assert torch.equal(label_map(logits, size, align_corners).long(), whole[0].argmax(dim=0))


@pytest.mark.parametrize('channels', [1, 5])
@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical'])
def test_labels_are_those_of_mmseg(channels, direction):
    """Its own function, on logits with padding, mirrored, of one class and of several."""
    meta = dict(ori_shape=(33, 47), padding_size=[2, 3, 0, 4], flip=direction is not None)
    meta['flip_direction'] = direction
    samples = [SegDataSample(metainfo=meta) for _ in range(2)]
    model = SimpleNamespace(align_corners=False, decode_head=SimpleNamespace(threshold=0.3))
    logits = torch.randn(2, channels, 24, 35)
    reference = BaseSegmentor.postprocess_result(model, logits, [s.clone() for s in samples])
    for found, expected in zip(keep_labels_only(model, logits, samples), reference, strict=True):
        assert torch.equal(found.pred_sem_seg.data.long(), expected.pred_sem_seg.data.long())
        assert 'seg_logits' not in found


@pytest.mark.slow
def test_memory_is_bounded():
    """150 classes and 3 megapixels: all logits would take 1.8 GB."""
    code = """
import resource, torch
from adpe_mm.evaluation.predictions import label_map
logits = torch.randn(150, 32, 48)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
label_map(logits, (1500, 2000), False)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert float(done.stdout.split()[-1]) < 100, done.stderr  # MB


def test_every_image_has_a_name_of_its_own(tmp_path):
    names = ['a.b/1.jpg', 'a.b/1.png', '1.jpg', '1.jpg.png', 'ü/1', 'ü/1.tar.gz.tif', 'c/2.jpg']
    named = name_images([tmp_path / name for name in names] + [tmp_path / '1.jpg'], tmp_path)
    assert [image.file for image in named] == names
    assert [image.name for image in named] == [
        'a.b/1.jpg', 'a.b/1.png', '1', '1.jpg.png', 'ü/1', 'ü/1.tar.gz', 'c/2',
    ]  # fmt: skip


def test_names_begin_where_folders_differ(tmp_path, monkeypatch):
    for name in ('p/x.png', 'p/s/y.png', 'q/x.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (2, 2)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def names(*given):
        return [image.name for image in find_named(given, 'out')]

    assert names('p') == ['s/y', 'x']
    assert names('p', 'q') == ['p/s/y', 'p/x', 'q/x']
    assert names('p/x.png') == ['x'] and names('p/x.png', 'q/x.png') == ['p/x', 'q/x']
    assert names('p/', './p/x.png') == ['s/y', 'x']


def test_masks_of_more_classes_than_a_palette_has(tmp_path):
    sample = SegDataSample(pred_sem_seg=PixelData(data=torch.tensor([[[0, 299], [255, 256]]])))
    palette = [(i % 256, 0, 0) for i in range(300)]
    Masks(tmp_path, [], palette, False).add(NamedImage('a.png', 'a.png', 'a'), sample)
    with Image.open(tmp_path / 'masks' / 'a.png') as mask:
        assert np.array_equal(np.asarray(mask), [[0, 299], [255, 256]])


@pytest.mark.parametrize(
    'bands, order',
    [(None, [0, 0, 0]), (1, [0, 0, 0]), (2, [0, 0, 0]), (3, [2, 1, 0]), (6, [0, 1, 2])],
)
def test_whatever_arrives_is_drawn_with_three_bands(bands, order):
    pixels = np.arange(20 * (bands or 1), dtype=np.uint8).reshape(4, 5, -1)
    shown = as_rgb(pixels[..., 0] if bands is None else pixels)
    assert shown.shape == (4, 5, 3) and shown.dtype == np.uint8
    assert np.array_equal(shown, pixels[..., order])
    assert as_rgb(1000.0 * pixels).max() == 255


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    ['cls/adpe-vit-mini_mini.py', 'seg/upernet_adpe-vit-mini_mini.py']
    + ['det/mask-rcnn_adpe-vit-mini_mini.py'],
)
def test_phone_photographs_are_drawn_upright(tmp_path, config):
    """However the phone was held, the picture is that of the upright scene."""
    cfg = Config.fromfile(CONFIGS / config)
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    meta = cfg.to_dict()['test_dataloader']['dataset'].get('metainfo', dict(classes='abcdefgh'))
    weights = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=meta)), tmp_path / 'a.pth')
    predictor = Predictor(cfg, str(tmp_path / 'a.pth'), 'cpu')

    def pictures(path):
        np.random.seed(0)  # of the colours around masks
        batch = predictor.load(path)
        predictor.draw(path, predictor.predict(batch), tmp_path / 'drawn.png', 0.0)
        sheet = predictor.attention_sheet(path, batch)
        return np.asarray(Image.open(tmp_path / 'drawn.png')), np.asarray(sheet)

    small = np.random.default_rng(0).integers(0, 255, (4, 3, 3), dtype=np.uint8)
    scene = Image.fromarray(small).resize((40, 64), Image.Resampling.BICUBIC)
    scene.save(tmp_path / 'plain.png')
    drawn, sheet = pictures(tmp_path / 'plain.png')
    assert drawn.shape[:2] == (256, 160)  # enlarged four times
    for orientation in range(1, 9):
        save_turned(scene, tmp_path / 'turned.png', orientation)
        found = pictures(tmp_path / 'turned.png')
        assert np.array_equal(found[0], drawn) and np.array_equal(found[1], sheet)
        save_turned(scene, tmp_path / 'turned.jpg', orientation)
        assert pictures(tmp_path / 'turned.jpg')[0].shape == drawn.shape
