"""tools/test.py: what holds of single classes, in JSON that every program reads."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy, SingleLabelMetric
from mmpretrain.structures import DataSample
from mmseg.evaluation import IoUMetric
from pycocotools.mask import encode

from adpe_mm.evaluation.testing import remember_classes, strict


def evaluate(metric, samples, **meta):
    """What a test with one metric gives: of all, and by class."""
    evaluator = Evaluator([metric])
    runner = SimpleNamespace(build_evaluator=lambda given: given, _test_evaluator=evaluator)
    by_class = remember_classes(runner)
    evaluator.dataset_meta = meta
    evaluator.process(samples, {})
    return evaluator.evaluate(len(samples)), by_class


def test_classification():
    """Against mmpretrain's precision and recall, which are 0 where there is nothing to count."""
    classes = ('tee', 'snake', 'cup', 'flag', 'wreath')
    truth, scores = torch.randint(0, 4, (50,)), torch.rand(50, 5)
    scores[:, 3] = 0  # never found; 'wreath' never is there
    samples = [
        DataSample().set_gt_label(int(label)).set_pred_score(score)
        for label, score in zip(truth, scores, strict=True)
    ]
    metrics, found = evaluate(Accuracy(topk=(1,)), samples, classes=classes)
    assert set(metrics) == {'accuracy/top1'}
    labels = scores.argmax(dim=1)
    precision, recall, _, support = SingleLabelMetric.calculate(
        labels, truth, average=None, num_classes=5
    )
    images = found['images'].values()
    assert list(found['images']) == list(classes) and list(images) == support.tolist()
    assert list(found['accuracy'].values())[:4] == pytest.approx(recall.tolist()[:4], abs=1e-4)
    assert list(found['precision'].values())[:3] == pytest.approx(precision.tolist()[:3], abs=1e-4)
    assert math.isnan(found['precision']['flag']) and math.isnan(found['accuracy']['wreath'])
    assert found['precision']['wreath'] == 0
    share = np.array(list(images)) / 50  # by it, the classes' accuracies make that of all
    assert np.nansum(share * list(found['accuracy'].values())) == pytest.approx(
        metrics['accuracy/top1'], abs=1e-4
    )


def test_segmentation():
    truth = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 255]])
    found = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    sample = dict(pred_sem_seg=dict(data=found), gt_sem_seg=dict(data=truth), img_path='a.png')
    _, by_class = evaluate(IoUMetric(), [sample], classes=('road', 'tree', 'sky'))
    assert by_class['IoU'] == pytest.approx({'road': 50, 'tree': 60, 'sky': math.nan}, nan_ok=True)
    assert by_class['Acc'] == pytest.approx({'road': 50, 'tree': 100, 'sky': math.nan}, nan_ok=True)


def test_boxes_and_masks_are_apart(tmp_path):
    """The ship's box is right and its mask wrong; of the buoy the mask alone is right."""
    mask = np.zeros((40, 40), np.uint8)
    masks = dict(ship=mask.copy(), buoy=mask.copy(), wrong=mask.copy())
    masks['ship'][2:12, 2:22] = masks['buoy'][20:30, 20:30] = masks['wrong'][35:39, 0:3] = 1
    codes = {name: encode(np.asfortranarray(mask)) for name, mask in masks.items()}
    boxes = dict(ship=[2, 2, 20, 10], buoy=[20, 20, 10, 10])
    truth = dict(
        images=[dict(id=1, file_name='a.png', width=40, height=40)],
        categories=[dict(id=i, name=name) for i, name in enumerate(('ship', 'buoy', 'kite'), 1)],
        annotations=[
            dict(
                id=i, image_id=1, category_id=i, bbox=boxes[name], area=100, iscrowd=0,
                segmentation=dict(size=[40, 40], counts=codes[name]['counts'].decode()),
            )
            for i, name in enumerate(('ship', 'buoy'), 1)
        ],
    )  # fmt: skip
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    found = dict(
        bboxes=torch.tensor([[2.0, 2, 22, 12], [0, 0, 5, 5]]), labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.9]), masks=[codes['wrong'], codes['buoy']],
    )  # fmt: skip
    sample = dict(img_id=1, ori_shape=(40, 40), pred_instances=found)
    metric = CocoMetric(
        ann_file=str(tmp_path / 'truth.json'), metric=['bbox', 'segm'], classwise=True
    )
    metrics, by_class = evaluate(metric, [sample], classes=('ship', 'buoy', 'kite'))
    nan = math.nan
    assert by_class['box AP'] == pytest.approx({'ship': 100, 'buoy': 0, 'kite': nan}, nan_ok=True)
    assert by_class['mask AP'] == pytest.approx({'ship': 0, 'buoy': 100, 'kite': nan}, nan_ok=True)
    assert metrics['coco/bbox_mAP'] == metrics['coco/segm_mAP'] == pytest.approx(0.5)
    assert math.isnan(metrics['coco/bbox_mAP_l'])  # COCO's -1: there is no large object
    assert not any('ship' in name for name in metrics)


def test_json_is_strict():
    values = dict(
        a=math.nan, b=[math.inf, -math.inf, 1.5], c=np.float32('nan'), d=np.int64(3),
        e=torch.tensor([1.0, math.nan]), f=dict(g=None, h=True, i='NaN'), j=(np.array(2.5),),
    )  # fmt: skip

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(json.dumps(strict(values)), parse_constant=refuse)
    assert read == dict(
        a=None, b=[None, None, 1.5], c=None, d=3, e=[1.0, None], f=dict(g=None, h=True, i='NaN'),
        j=[2.5],
    )  # fmt: skip
