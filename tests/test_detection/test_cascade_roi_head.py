"""The cascade against its definition in detectron2, written plainly.

detectron2: ``modeling/roi_heads/{cascade_rcnn,fast_rcnn,mask_head}.py``, ``modeling/matcher.py``,
``modeling/box_regression.py``, ``modeling/poolers.py``, ``structures/{boxes,masks}.py``.
"""

import math
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn
from torchvision.ops import batched_nms, box_iou, roi_align

from adpe_mm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
STRIDES = (4, 8, 16, 32)
CLASSES = 3
# As detectron2 states them: of dx, dy, dw and dh in the three stages; and each stage's IoU.
WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
OVERLAPS = (0.5, 0.6, 0.7)
SIZES = ((192, 256), (160, 224))  # height and width of the two images


@pytest.fixture(scope='module')
def roi_head():
    """The head of the config with few channels, one that moves boxes and has opinions."""
    cfg = Config.fromfile(CONFIGS / 'det' / 'cascade-mask-rcnn_adpe-vit-b_100e_coco.py')
    init_default_scope('mmdet')
    settings = cfg.model.roi_head
    narrow = dict(in_channels=8, conv_out_channels=8, num_classes=CLASSES)
    for head in settings.bbox_head:
        head.update(narrow, fc_out_channels=16)
    settings.mask_head.update(narrow)
    for kind in ('bbox', 'mask'):
        settings[f'{kind}_roi_extractor'].out_channels = 8
    # All proposals are kept in the first stage, as those that are drawn are drawn at random.
    train_cfg, test_cfg = cfg.model.train_cfg.rcnn, cfg.model.test_cfg.rcnn
    train_cfg.sampler.update(num=1000, pos_fraction=0.5)
    torch.manual_seed(0)
    head = MODELS.build(dict(settings, train_cfg=train_cfg, test_cfg=test_cfg))
    head.init_weights()
    for box_head in head.bbox_head:
        nn.init.normal_(box_head.fc_cls.weight, std=0.5)
        nn.init.normal_(box_head.fc_reg.weight, std=0.2)
    return head


def random_boxes(count, height, width, generator):
    corner = torch.rand(count, 2, generator=generator)
    corner = corner * torch.tensor([width - 40.0, height - 40.0])
    # Some so large that they are pooled from the second level.
    size = 12 + 140 * torch.rand(count, 2, generator=generator) ** 2
    return torch.cat((corner, corner + size), dim=1).clamp(min=0)


@pytest.fixture()
def batch():
    """Features, objects and proposals of two images."""
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(2, 8, 192 // s, 256 // s, generator=generator) for s in STRIDES]
    objects, proposals = [], []
    for (height, width), count in zip(SIZES, (4, 2), strict=True):
        boxes = random_boxes(count, height, width, generator)
        boxes = boxes.clamp(max=torch.tensor([width, height, width, height]))
        polygons = []
        for x1, y1, x2, y2 in boxes.tolist():
            polygons.append([np.array([x1, y1, x2, (y1 + y2) / 2, x1, y2])])  # a triangle
        labels = torch.randint(CLASSES, (count,), generator=generator)
        masks = PolygonMasks(polygons, height, width)
        objects.append(InstanceData(bboxes=boxes, labels=labels, masks=masks))
        near = boxes.repeat(6, 1)
        near = near + 3 * torch.randn(near.shape, generator=generator)
        others = random_boxes(20, height, width, generator)
        within = torch.cat((near, others)).clamp(min=0)
        within = within.minimum(torch.tensor([width, height, width, height]))
        # Outside of the image, which no proposal of the network is: clipped, it is empty.
        outside = torch.tensor([[width + 5.0, 10, width + 30, 60]])
        proposals.append(torch.cat((within, outside)))
    return features, objects, proposals


def samples_of(objects):
    samples = []
    for of_image, size in zip(objects, SIZES, strict=True):
        info = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        samples.append(DetDataSample(metainfo=info, gt_instances=of_image))
    return samples


def pool(features, boxes, side):
    """Level 4 is of boxes of 224 px, one lower of half of that; strides of 4 to 32 px."""
    found = []
    for image, of_image in enumerate(boxes):
        for box in of_image:
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            level = math.floor(4 + math.log2(math.sqrt(area) / 224 + 1e-8))
            level = min(max(level, 2), 5) - 2
            found.append(
                roi_align(
                    features[level][image : image + 1],
                    [box[None]],
                    side,
                    spatial_scale=1 / STRIDES[level],
                    sampling_ratio=-1,
                    aligned=True,
                )
            )
    return torch.cat(found)


def to_deltas(boxes, targets, weights):
    size, target_size = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + target_size / 2 - boxes[:, :2] - size / 2) / size
    return torch.cat((shift, (target_size / size).log()), dim=1) * torch.tensor(weights)


def from_deltas(boxes, deltas, weights, image_size):
    deltas = deltas / torch.tensor(weights)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2 + deltas[:, :2] * size
    size = size * deltas[:, 2:].clamp(max=math.log(1000 / 16)).exp()
    height, width = image_size
    moved = torch.cat((centre - size / 2, centre + size / 2), dim=1)
    return moved.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def mask_target(polygon, box):
    """The polygon, drawn into 28 x 28 pixels of the box."""
    x1, y1, x2, y2 = box.tolist()
    points = polygon.reshape(-1, 2) - np.array([x1, y1])
    points = points * 28 / np.array([x2 - x1, y2 - y1])
    drawn = pycocotools.mask.frPyObjects([points.flatten().tolist()], 28, 28)
    return torch.from_numpy(pycocotools.mask.decode(pycocotools.mask.merge(drawn))).float()


def defined_losses(roi_head, features, objects, proposals):
    """detectron2's losses, and how many boxes came to be empty."""
    boxes = [torch.cat((o.bboxes, p)) for o, p in zip(objects, proposals, strict=True)]
    losses, empty = {}, 0
    for stage in range(3):
        labels, targets, owners = [], [], []
        for of_image, found in zip(boxes, objects, strict=True):
            overlap, owner = box_iou(found.bboxes, of_image).max(dim=0)
            matched = overlap >= OVERLAPS[stage]
            labels.append(torch.where(matched, found.labels[owner], CLASSES))
            targets.append(found.bboxes[owner])
            owners.append(owner)
        all_labels, all_boxes = torch.cat(labels), torch.cat(boxes)
        positive = all_labels < CLASSES
        assert positive.any() and not positive.all()
        pooled = pool(features, boxes, 7)
        pooled = pooled / 3 + pooled.detach() * 2 / 3  # a third of the gradient
        scores, deltas = roi_head.bbox_head[stage](pooled)
        losses[f's{stage}.loss_cls'] = F.cross_entropy(scores, all_labels)
        wanted = to_deltas(all_boxes[positive], torch.cat(targets)[positive], WEIGHTS[stage])
        distance = (deltas[positive] - wanted).abs().sum()
        losses[f's{stage}.loss_bbox'] = distance / len(all_boxes)
        if stage == 0:
            chosen = [b[of_image < CLASSES] for b, of_image in zip(boxes, labels, strict=True)]
            logits = roi_head.mask_head(pool(features, chosen, 14))
            logits = logits[torch.arange(len(logits)), all_labels[positive]]
            drawn = []
            for image, of_image in enumerate(boxes):
                for i in (labels[image] < CLASSES).nonzero()[:, 0].tolist():
                    polygon = objects[image].masks.masks[int(owners[image][i])][0]
                    drawn.append(mask_target(polygon, of_image[i]))
            losses['loss_mask'] = F.binary_cross_entropy_with_logits(logits, torch.stack(drawn))
        with torch.no_grad():
            deltas = deltas.split([len(of_image) for of_image in boxes])
            for image, of_image in enumerate(boxes):
                moved = from_deltas(of_image, deltas[image], WEIGHTS[stage], SIZES[image])
                kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
                empty += int((~kept).sum())
                boxes[image] = moved[kept]
    return losses, empty


def gradients(losses, roi_head, features, **how):
    return torch.autograd.grad(
        sum(losses.values()), [*features, *roi_head.parameters()], allow_unused=True, **how
    )


def test_training_is_that_of_detectron2(roi_head, batch):
    """All losses, and their gradients at the features and at every parameter."""
    features, objects, proposals = batch
    features = [level.requires_grad_() for level in features]
    expected, empty = defined_losses(roi_head, features, objects, proposals)
    assert empty >= 2
    given = [InstanceData(bboxes=boxes) for boxes in proposals]
    got = roi_head.train().loss(features, given, samples_of(objects))
    got = {name: value.sum() for name, value in got.items() if 'loss' in name}
    assert set(got) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)
    mine = gradients(got, roi_head, features, materialize_grads=True)
    torch.testing.assert_close(
        mine, gradients(expected, roi_head, features, materialize_grads=True)
    )
    assert mine[0].any() and mine[1].any()  # boxes were pooled from two levels


def test_inference_is_that_of_detectron2(roi_head, batch):
    """Boxes, scores, labels and masks."""
    features, objects, proposals = batch
    given = [InstanceData(bboxes=boxes) for boxes in proposals]
    with torch.no_grad():
        found = roi_head.eval().predict(features, given, samples_of(objects), rescale=True)
        boxes, probabilities = proposals, []
        for stage in range(3):
            scores, deltas = roi_head.bbox_head[stage](pool(features, boxes, 7))
            probabilities.append(scores.softmax(dim=1))
            deltas = deltas.split([len(of_image) for of_image in boxes])
            boxes = [
                from_deltas(boxes[image], deltas[image], WEIGHTS[stage], SIZES[image])
                for image in range(2)
            ]
        mean = (sum(probabilities) / 3).split([len(of_image) for of_image in boxes])
        for image, (height, width) in enumerate(SIZES):
            place, label = (mean[image][:, :CLASSES] > 0.05).nonzero(as_tuple=True)
            score = mean[image][place, label]
            kept = batched_nms(boxes[image][place], score, label, 0.5)[:100]
            place, label, score = place[kept], label[kept], score[kept]
            assert len(kept) > 20
            # float32, in which the mean is taken, orders equal scores in another way.
            torch.testing.assert_close(found[image].scores, score, atol=1e-6, rtol=1e-5)
            assert torch.equal(found[image].labels, label)
            box = boxes[image][place]
            torch.testing.assert_close(found[image].bboxes, box, atol=1e-3, rtol=1e-5)
            of_image = [box if i == image else box[:0] for i in range(2)]
            logits = roi_head.mask_head(pool(features, of_image, 14))
            masks = logits[torch.arange(len(box)), label].sigmoid()
            for i, (x1, y1, x2, y2) in enumerate(box.tolist()):
                if min(x2 - x1, y2 - y1) < 1:
                    continue
                x = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
                y = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
                grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)
                pasted = F.grid_sample(masks[i][None, None], grid[None], align_corners=False)
                unsure = (pasted[0, 0] - 0.5).abs() < 1e-4
                same = found[image].masks[i] == (pasted[0, 0] >= 0.5)
                assert (same | unsure).all()


def test_no_box_is_no_mistake(roi_head, batch):
    """And every parameter of the box heads has its gradient, which processes wait for."""
    features, objects, _ = batch
    none = [InstanceData(bboxes=torch.zeros(0, 4)) for _ in range(2)]
    found = roi_head.eval().predict(features, none, samples_of(objects))
    assert [len(of_image) for of_image in found] == [0, 0]
    nothing = [of_image[:0] for of_image in objects]
    for of_image, size in zip(nothing, SIZES, strict=True):
        of_image.masks = PolygonMasks([], *size)
    losses = roi_head.train().loss(features, none, samples_of(nothing))
    losses = {name: value.sum() for name, value in losses.items() if 'loss' in name}
    assert len(losses) == 7 and all(value.item() == 0 for value in losses.values())
    assert all(gradient is not None for gradient in gradients(losses, roi_head, []))


def test_raw_outputs(roi_head, batch):
    features, objects, proposals = batch
    given = [InstanceData(bboxes=boxes) for boxes in proposals]
    with torch.no_grad():
        outputs = roi_head.eval()(features, given, samples_of(objects))
    rois = sum(map(len, proposals))
    assert [tuple(out.shape) for out in outputs[:-1]] == [(rois, CLASSES + 1), (rois, 4)] * 3
    assert outputs[-1].shape == (min(rois, 100), CLASSES, 28, 28)


@pytest.mark.parametrize(
    'change, sentence',
    [
        (dict(overlaps=(0.6,)), r'3 heads, overlaps=\(0.6,\)'),
        (dict(bbox_head=[dict(reg_class_agnostic=False)] * 3), 'reg_class_agnostic=True'),
        (dict(mask_roi_extractor=None), 'mask_roi_extractor'),
    ],
)
def test_mistakes(change, sentence):
    cfg = Config.fromfile(CONFIGS / '_base_' / 'models' / 'cascade-mask-rcnn_vitdet-b.py')
    with pytest.raises(ValueError, match=sentence):
        MODELS.build(ConfigDict(cfg.model.roi_head, **change))


def test_parameters_are_as_many_as_in_detectron2():
    """Counted from its ViTDet-B; its positions have one more, of cls, which is never used."""
    cfg = Config.fromfile(CONFIGS / 'det' / 'cascade-mask-rcnn_adpe-vit-b-ape_100e_coco.py')
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    E, C, K = 768, 256, 80

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    conv = 9 * C * C + 2 * C  # with a norm, and so without bias
    block = 4 * E + linear(E, 3 * E) + linear(E, E) + linear(E, 4 * E) + linear(4 * E, E)
    relative = 8 * 2 * (2 * 14 - 1) * 64 + 4 * 2 * (2 * 64 - 1) * 64
    backbone = linear(16 * 16 * 3, E) + 14 * 14 * E + 12 * block + relative
    up = 4 * E * E // 2 + E // 2
    first_up = up + E + 4 * (E // 2) * (E // 4) + E // 4
    pyramid = first_up + up + 4 * (2 * C + conv) + (E // 4 + E // 2 + E + E) * C
    rpn = 2 * linear(9 * C, C) + linear(C, 3) + linear(C, 12)
    box_head = 4 * conv + linear(49 * C, 1024) + linear(1024, K + 1) + linear(1024, 4)
    mask_head = 4 * conv + linear(4 * C, C) + linear(C, K)
    expected = dict(
        backbone=backbone, neck=pyramid, rpn_head=rpn, roi_head=3 * box_head + mask_head
    )
    for part, count in expected.items():
        assert sum(p.numel() for p in getattr(model, part).parameters()) == count, part
    assert sum(p.numel() for p in model.parameters()) == sum(expected.values())
