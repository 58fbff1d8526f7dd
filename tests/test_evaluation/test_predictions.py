"""predict.py enlarges what was predicted as it enlarges the image."""

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torchvision.ops import masks_to_boxes

from adpe_mm.evaluation.predictions import enlarge


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
