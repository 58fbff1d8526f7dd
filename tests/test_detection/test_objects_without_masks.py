"""Objects without a mask move with their image, train the boxes, and give no loss of masks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as masks
from torch.nn.functional import binary_cross_entropy_with_logits

from adpe_mm.detection import CocoDataset, FCNMaskHead, LoadInstances
from adpe_mm.errors import UserError
from adpe_mm.registry import TRANSFORMS
from tests.test_detection.coco_files import NAMES, SIZE, content, rectangle, write

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
BOX = [10, 15, 30, 40]  # x, y, right, bottom


def run_lengths(box, size=SIZE):
    bits = np.zeros(size, np.uint8, order='F')
    bits[box[1] : box[3], box[0] : box[2]] = 1
    packed = masks.encode(bits)
    return dict(size=list(size), counts=packed['counts'].decode())


def load(*given, poly2mask=False, ignore=()):
    """The masks of objects with the same box."""
    init_default_scope('mmdet')
    transform = LoadInstances(with_bbox=True, with_mask=True, poly2mask=poly2mask)
    instances = [
        dict(bbox=BOX, bbox_label=0, ignore_flag=int(n in ignore)) for n in range(len(given))
    ]
    for instance, mask in zip(instances, given, strict=True):
        if mask is not None:
            instance['mask'] = mask
    return transform(dict(ori_shape=SIZE, img_path='a.png', instances=instances))


POLYGON = rectangle(10, 15, 20, 25)


@pytest.mark.parametrize('poly2mask', [True, False])
def test_masks_of_any_kind_are_the_same(poly2mask):
    drawn = np.zeros(SIZE, np.uint8)
    drawn[15:40, 10:30] = 1
    found = load(POLYGON, run_lengths(BOX), None, poly2mask=poly2mask)
    assert isinstance(found['gt_masks'], BitmapMasks) and not found['gt_ignore_flags'].any()
    for mask, factor in zip(found['gt_masks'].masks, (1, 1, 255), strict=True):
        np.testing.assert_array_equal(mask, factor * drawn)


def test_polygons_stay_where_there_is_nothing_else():
    assert isinstance(load(POLYGON, POLYGON)['gt_masks'], PolygonMasks)
    # A crowd is ignored, as in COCO, and is no reason to draw the others.
    found = load(POLYGON, run_lengths(BOX), ignore=[1])
    assert isinstance(found['gt_masks'], PolygonMasks)
    assert found['gt_ignore_flags'].tolist() == [False, True]
    assert isinstance(load(POLYGON, None, ignore=[1])['gt_masks'], PolygonMasks)


def test_a_mask_of_another_size_names_the_image():
    with pytest.raises(UserError, match='a mask of a.png is 60 x 80 px, the image 80 x 60 px'):
        load(run_lengths(BOX, SIZE[::-1]))


@pytest.mark.parametrize('kind', ['polygons', 'bitmaps'])
def test_boxes_follow_the_image_through_the_recipe(tmp_path, kind):
    """The jitter of COCO's recipe, with and without masks of some of the objects."""
    data = content(images=1)
    if kind == 'bitmaps':
        for annotation in data['annotations'][::2]:
            del annotation['segmentation']
    path = write(tmp_path, data)
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIGS / 'det' / 'mask-rcnn_adpe-vit-b_100e_coco.py')
    pipeline = Compose([TRANSFORMS.build(s) for s in cfg.train_dataloader.dataset.pipeline])
    folder = dict(img=str(tmp_path))
    whole = CocoDataset(ann_file=path, data_prefix=folder, metainfo=dict(classes=NAMES))
    np.random.seed(0)
    for _ in range(10):
        info = whole.get_data_info(0)
        found = pipeline(info)
        sample = found['data_samples']
        truth = {i['bbox_label']: torch.tensor(i['bbox']) for i in info['instances']}
        flipped, (wide, high) = sample.flip, sample.scale_factor
        uncropped = max(sample.img_shape) < 1024
        for label, box in zip(
            sample.gt_instances.labels, sample.gt_instances.bboxes.tensor, strict=True
        ):
            x0, y0, x1, y1 = truth[int(label)].tolist()
            if flipped:
                x0, x1 = SIZE[1] - x1, SIZE[1] - x0
            if uncropped:
                expected = torch.tensor([x0 * wide, y0 * high, x1 * wide, y1 * high])
                assert (box - expected).abs().max() <= 1.5
            else:  # as large as it was, or cut
                assert box[2] - box[0] <= (x1 - x0) * wide + 1.5
        if uncropped:
            assert sorted(sample.gt_instances.labels.tolist()) == [0, 1, 2]


class Sampled:
    """Boxes of an image that count as objects, as mmdet's sampler gives them."""

    def __init__(self, boxes, objects, labels):
        self.pos_priors = torch.tensor(boxes, dtype=torch.float)
        self.pos_assigned_gt_inds = torch.tensor(objects)
        self.pos_gt_labels = torch.tensor(labels)


def test_the_loss_is_of_the_objects_with_masks():
    """Per pixel cross-entropy, in float64, of the boxes whose object has a mask."""
    torch.manual_seed(0)
    head = FCNMaskHead(num_convs=1, in_channels=4, conv_out_channels=4, num_classes=3)
    size = 28
    predicted = torch.randn(5, 3, size, size, requires_grad=True)
    truth = InstanceData(masks=load(POLYGON, None, run_lengths(BOX))['gt_masks'])
    other = InstanceData(masks=load(POLYGON)['gt_masks'])
    # Boxes within their objects: each target is 1 everywhere.
    inner = [12, 17, 28, 38]
    first = Sampled([inner] * 4, [0, 1, 2, 1], [2, 0, 1, 0])
    second = Sampled([inner], [0], [1])
    config = Config(dict(mask_size=size))
    loss = head.loss_and_target(predicted, [first, second], [truth, other], config)
    loss = loss['loss_mask']['loss_mask']
    kept = torch.stack([predicted[0, 2], predicted[2, 1], predicted[4, 1]]).double()
    expected = binary_cross_entropy_with_logits(kept, torch.ones_like(kept))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert predicted.grad[[1, 3]].abs().max() == 0 and predicted.grad[[0, 2, 4]].abs().sum() > 0


def test_no_mask_in_a_batch_is_no_loss():
    head = FCNMaskHead(num_convs=1, in_channels=4, conv_out_channels=4, num_classes=3)
    predicted = torch.randn(1, 3, 28, 28, requires_grad=True)
    truth = InstanceData(masks=load(None)['gt_masks'])
    samples = [Sampled([BOX], [0], [1])]
    loss = head.loss_and_target(predicted, samples, [truth], Config(dict(mask_size=28)))
    loss['loss_mask']['loss_mask'].backward()
    assert loss['loss_mask']['loss_mask'] == 0 and predicted.grad.abs().max() == 0


def test_no_object_has_a_mask(tmp_path):
    data = content()
    for annotation in data['annotations']:
        del annotation['segmentation']
    options = dict(ann_file=write(tmp_path, data), metainfo=dict(classes=NAMES))
    with_masks = [dict(type='adpe_mm.LoadInstances', with_bbox=True, with_mask=True)]
    with pytest.raises(UserError, match=r'no object of .* has a mask .*configs/det/faster-rcnn_'):
        CocoDataset(pipeline=with_masks, **options)
    with_masks[0].update(with_mask=False)
    assert len(CocoDataset(pipeline=with_masks, **options)) == 4


def mini_run(path, coco, folder):
    """A config of mini scenes that runs for a moment."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(coco)
    annotations = str(coco / 'annotations' / 'instances_val2017.json')
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = annotations
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_iters=3, val_interval=3)
    cfg.default_hooks.checkpoint.interval = 3
    cfg.default_hooks.logger.interval = 1
    # One of each name is there in a process.
    cfg.visualizer.update(name=folder.name, vis_backends=[dict(type='LocalVisBackend')])
    cfg.work_dir, cfg.experiment_name = str(folder), folder.name
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('masks_of', ['none', 'some'])
def test_trains_and_is_tested(tmp_path, masks_of):
    """Without masks by the configuration of boxes, with some by that of masks."""
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_mini.py'
    command = [sys.executable, tool, tmp_path / 'mini', '--train', '8', '--val', '9']
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    coco = tmp_path / 'mini' / 'coco'
    for name in ('train', 'val'):
        path = coco / 'annotations' / f'instances_{name}2017.json'
        data = json.loads(path.read_text())
        for annotation in data['annotations'][:: 1 if masks_of == 'none' else 2]:
            del annotation['segmentation']
        path.write_text(json.dumps(data))
    kind = 'faster' if masks_of == 'none' else 'mask'
    config = CONFIGS / 'det' / f'{kind}-rcnn_adpe-vit-mini_mini.py'
    RUNNERS.build(mini_run(config, coco, tmp_path / masks_of)).train()
    (log,) = (tmp_path / masks_of).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[:3]:
        assert ('loss_mask' in line) == (masks_of == 'some')
        assert np.isfinite(line['loss']) and line['loss_bbox'] >= 0
    assert ('coco/segm_mAP' in lines[-1]) == (masks_of == 'some')
    assert 'coco/bbox_mAP' in lines[-1]
