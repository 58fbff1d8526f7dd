"""predict.py draws over the pixels that the network saw, and enlarges both alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torchvision.ops import masks_to_boxes

from adpe_mm.evaluation.predictions import Predictor, enlarge
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
        predictor.draw(path, batch, tmp_path / 'drawn.png', 0.0)
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
