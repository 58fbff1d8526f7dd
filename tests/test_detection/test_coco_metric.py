"""AP of classes by their names, whatever order and ids a file has; of masks where some lack one."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from pycocotools import mask as masks

from adpe_mm.detection import CocoDataset, CocoMetric
from adpe_mm.errors import UserError
from tests.test_detection.coco_files import NAMES, SIZE, content, rectangle, write


def samples_of(path, classes, found=lambda image, name: True, boxes=None):
    """What a network that finds some of the objects gives: those that the data set has.

    Args:
        path: Of the file.
        classes: Of the config.
        found: Whether the object of a class is found in image n.
        boxes: Of each object in the place of its own, for its mask.
    """
    data = CocoDataset(ann_file=path, metainfo=dict(classes=classes), test_mode=True)
    samples = []
    for n in range(len(data)):
        info = data.get_data_info(n)
        kept = [i for i in info['instances'] if found(n, classes[i['bbox_label']])]
        drawn = np.zeros((len(kept), *SIZE), bool)
        for mask, instance in zip(drawn, kept, strict=True):
            x0, y0, x1, y1 = map(int, instance['bbox'])
            mask[y0:y1, x0:x1] = True
        predicted = dict(
            bboxes=torch.tensor([i['bbox'] for i in kept]).reshape(-1, 4),
            scores=torch.linspace(0.9, 0.5, len(kept)),
            labels=torch.tensor([i['bbox_label'] for i in kept], dtype=torch.long),
            masks=torch.from_numpy(drawn),
        )
        samples.append(dict(img_id=info['img_id'], ori_shape=SIZE, pred_instances=predicted))
    return data.metainfo, samples


def evaluate(path, classes, samples=None, meta=None, **options) -> dict:
    if samples is None:
        meta, samples = samples_of(path, classes)
    metric = CocoMetric(ann_file=path, classwise=True, **options)
    metric.dataset_meta = meta
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('classes', [NAMES, NAMES[::-1], ['tee', 'wreath', 'stairs']])
@pytest.mark.parametrize('ids', [(1, 2, 3), (30, 7, 12), (0, 1, 2)])
@pytest.mark.parametrize('order', [NAMES, ['tee', 'stairs', 'wreath']])
def test_ap_is_of_the_class_that_it_names(tmp_path, classes, ids, order):
    """All found is AP 1. Each class found in so many images of 4 at precision 1: a known area.

    COCO averages the precision at the recalls 0, 0.01, ..., 1; below the recall that is reached it
    is 1, above 0.
    """
    path = write(tmp_path, content(ids=ids, names=order))
    found = evaluate(path, classes, metric=['bbox', 'segm'])
    for kind in ('bbox', 'segm'):
        assert found[f'coco/{kind}_mAP'] == 1
    assert {found[f'coco/{name}_precision'] for name in NAMES} == {1}
    times = dict(wreath=1, tee=2, stairs=3)
    meta, samples = samples_of(path, classes, lambda image, name: image < times[name])
    found = evaluate(path, classes, samples, meta)
    for name, number in times.items():
        expected = (math.floor(100 * number / 4) + 1) / 101
        assert found[f'coco/{name}_precision'] == pytest.approx(expected, abs=1e-3), name


def test_a_class_that_the_file_lacks(tmp_path):
    path = write(tmp_path, content())
    found = evaluate(path, ['cup', *NAMES])
    assert found['coco/bbox_mAP'] == 1 and math.isnan(found['coco/cup_precision'])


def test_only_the_images_that_were_tested_count(tmp_path):
    path = write(tmp_path, content())
    meta, samples = samples_of(path, NAMES)
    assert evaluate(path, NAMES, samples[:2], meta)['coco/bbox_mAP'] == 1
    samples[0]['img_id'] = 99
    with pytest.raises(
        UserError, match='objects.json lacks 1 of the images that were tested, .* 99'
    ):
        evaluate(path, NAMES, samples, meta)


def test_ids_that_are_names(tmp_path):
    data = content()
    for image in data['images']:
        image['id'] = f'of {image["id"]}'
    for annotation in data['annotations']:
        annotation['image_id'] = f'of {annotation["image_id"]}'
    assert evaluate(write(tmp_path, data), NAMES)['coco/bbox_mAP'] == 1


def test_missing_fields_and_ids_from_0(tmp_path):
    """pycocotools takes an object of id 0 for one that is not found."""
    data = content()
    for n, annotation in enumerate(data['annotations']):
        del annotation['iscrowd'], annotation['area']
        annotation['id'] = n
    found = evaluate(write(tmp_path, data), NAMES, metric=['bbox', 'segm'])
    assert found['coco/bbox_mAP'] == found['coco/segm_mAP'] == 1


@pytest.mark.parametrize('drawn', [True, False])
def test_objects_without_a_mask_count_neither_way(tmp_path, drawn):
    """Those of the first image; whether a mask is predicted for them makes no difference."""
    data = content()
    for annotation in data['annotations'][:3]:
        del annotation['segmentation']
    path = write(tmp_path, data)
    meta, samples = samples_of(path, NAMES, lambda image, name: drawn or image > 0)
    found = evaluate(path, NAMES, samples, meta, metric=['bbox', 'segm'])
    assert found['coco/segm_mAP'] == 1
    assert found['coco/bbox_mAP'] == pytest.approx(1 if drawn else 76 / 101, abs=1e-3)


def test_no_mask_at_all(tmp_path):
    path = write(tmp_path, stripped(content()))
    with pytest.raises(UserError, match=r"no object of .* has a mask .*metric='bbox'"):
        CocoMetric(ann_file=path, metric=['bbox', 'segm'])
    assert evaluate(path, NAMES, metric='bbox')['coco/bbox_mAP'] == 1


def stripped(data):
    for annotation in data['annotations']:
        del annotation['segmentation']
    return data


def test_predictions_that_are_kept_have_the_ids_of_the_file(tmp_path):
    ids = dict(zip(NAMES, (30, 7, 12), strict=True))
    path = write(tmp_path, content(ids=tuple(ids.values())))
    classes = NAMES[::-1]
    prefix = str(tmp_path / 'kept')
    options = dict(metric=['bbox', 'segm'], outfile_prefix=prefix)
    assert evaluate(path, classes, **options)['coco/bbox_mAP'] == 1
    for kind in ('bbox', 'segm'):
        kept = json.loads((tmp_path / f'kept.{kind}.json').read_text())
        assert len(kept) == 12
        for entry in kept:
            x, _, width, _ = entry['bbox']
            assert entry['category_id'] == ids[NAMES[int(x) // 20]]
        (tmp_path / f'kept.{kind}.json').unlink()
    # A test whose objects are not published.
    bare = {k: v for k, v in content(ids=(30, 7, 12)).items() if k != 'annotations'}
    meta, samples = samples_of(path, classes)
    test = write(tmp_path, bare, 'test.json')
    evaluate(test, classes, samples, meta, format_only=True, **options)
    kept = json.loads((tmp_path / 'kept.segm.json').read_text())
    assert [masks.area(entry['segmentation']) for entry in kept] == [
        entry['bbox'][2] * entry['bbox'][3] for entry in kept
    ]


def test_polygons_and_run_lengths_are_the_same_objects(tmp_path):
    data = content()
    for annotation in data['annotations'][::2]:
        x, y, width, height = annotation['bbox']
        bits = np.zeros(SIZE, np.uint8, order='F')
        bits[y : y + height, x : x + width] = 1
        packed = masks.encode(bits)
        annotation['segmentation'] = dict(size=packed['size'], counts=packed['counts'].decode())
    assert data['annotations'][1]['segmentation'] == rectangle(*data['annotations'][1]['bbox'])
    found = evaluate(write(tmp_path, data), NAMES, metric=['bbox', 'segm'])
    assert found['coco/segm_mAP'] == 1


def test_a_config_names_it(tmp_path):
    path = write(tmp_path, content())
    assert type(METRICS.build(dict(type='adpe_mm.CocoMetric', ann_file=path))) is CocoMetric
