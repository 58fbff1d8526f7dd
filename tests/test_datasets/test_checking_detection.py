"""What is wrong with files of COCO's form and a config is named before anything trains."""

import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as masks

from adpe_mm.datasets.checking import check_data
from tests.helpers import save_turned
from tests.test_detection.coco_files import NAMES, SIZE, content, write

CONFIGS = Path(__file__).parents[2] / 'configs' / 'det'
MASKS = 'mask-rcnn_adpe-vit-mini_mini.py'
TRAIN, VAL = 'TRAIN/train.json', 'VAL/val.json'


def make(folder, train=None, val=None, config=MASKS, classes=NAMES, **options) -> Config:
    """A config of a training and a validation set; the images of both differ."""
    cfg = Config.fromfile(CONFIGS / config)
    for kind, data in (('train', train), ('val', val)):
        path = write(folder / kind, content() if data is None else data, f'{kind}.json')
        for name in ('train', 'val', 'test'):
            if (name == 'train') == (kind == 'train'):
                source = cfg[f'{name}_dataloader'].dataset
                source.update(data_root=str(folder / kind), ann_file=f'{kind}.json')
                source.data_prefix = dict(img='')
                if classes is not None:
                    source.metainfo = dict(classes=classes)
                else:
                    source.pop('metainfo')
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = path
    heads = cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head
    for head in heads:
        for part in head if isinstance(head, list) else [head]:
            if part:
                part.num_classes = (
                    3 if classes is None or isinstance(classes, str) else len(classes)
                )
    cfg.merge_from_dict(options)
    return cfg


def sentences(folder, *args, every=False, **kwargs):
    """(warnings, problems) with the names of the folders taken out."""
    findings = check_data(make(folder, *args, **kwargs), every)

    def plain(texts):
        texts = [
            t.replace(f'{folder}/train/', 'TRAIN/').replace(f'{folder}/val/', 'VAL/') for t in texts
        ]
        return [t.replace(str(folder), 'FOLDER') for t in texts]

    return plain(findings.warnings), plain(findings.problems)


def test_nothing_is_wrong(tmp_path):
    start = time.perf_counter()
    findings = check_data(make(tmp_path))
    assert not findings.warnings and not findings.problems
    train, val = [fact for fact in findings.facts if 'dataset: ' in fact]
    assert train.startswith(
        'train_dataloader.dataset: 4 images, 12 objects (12 with polygons, 0 crowds) of 3 classes '
        '(wreath 4, tee 4, stairs 4), 80 x 60 px'
    )
    assert val.startswith('val_dataloader.dataset: 4 images') and time.perf_counter() - start < 60


def of(change, **options):
    """The file after a change of it, or of each annotation."""
    data = content(**options)
    for annotation in data['annotations']:
        change(annotation)
    return data


def one(part, number, **values):
    data = content()
    data[part][number].update(values)
    return data


def without(field, step=1):
    data = content()
    for annotation in data['annotations'][::step]:
        del annotation[field]
    return data


def as_corners(annotation):
    x, y, width, height = annotation['bbox']
    annotation['bbox'] = [x, y, x + width, y + height]


def as_run_lengths(annotation):
    x, y, width, height = annotation['bbox']
    bits = np.zeros(SIZE, np.uint8, order='F')
    bits[y : y + height, x : x + width] = 1
    packed = masks.encode(bits)
    annotation['segmentation'] = dict(size=packed['size'], counts=packed['counts'].decode())


HEADS = {f'model.roi_head.{head}.num_classes': 8 for head in ('bbox_head', 'mask_head')}
BOXES = 'config of boxes alone (configs/det/faster-rcnn_*.py, cascade-rcnn_*.py)'
LOADERS = [f'{name}_dataloader' for name in ('train', 'val', 'test')]
MMDET = {f'{loader}.dataset.type': 'CocoDataset' for loader in LOADERS}
OTHER_ORDER = {f'{loader}.dataset.metainfo.classes': NAMES[::-1] for loader in LOADERS[1:]}
PLAIN = {'train_dataloader.dataset.pipeline.1.type': 'LoadAnnotations'}
PROBLEMS = {
    'misspelt': (
        dict(classes=['wreeth', 'tee', 'stairs']),
        f"'wreeth' (nearest: 'wreath') is no category of {TRAIN}, which has 'wreath' besides: use "
        'one name in the classes of the config and in the file',
    ),
    'unknown': (
        dict(classes=['a', 'b', 'c']),
        f"none of the classes 'a', 'b', 'c' is a category of {TRAIN}: name its categories, class",
    ),
    'none given': (
        dict(classes=None),
        f'and 72 more is a category of {TRAIN}: name its categories',
    ),
    'no comma': (
        dict(classes='tee'),
        "train_dataloader.dataset.metainfo.classes='tee' is neither a list of names nor a file of",
    ),
    'misspelt in validation': (
        dict(val=content(names=['wreath', 'tee', 'stair'])),
        f"'stairs' (nearest: 'stair') is no category of {VAL}",
    ),
    'mmdet, other order of classes': (
        dict(classes=NAMES[::-1], **MMDET),
        "train_dataloader.dataset.type='CocoDataset' labels the objects in the order of the "
        f"categories of {TRAIN} ('wreath', 'tee', 'stairs'), and not of the classes of the config "
        "('stairs', 'tee', 'wreath'): set type='adpe_mm.CocoDataset'",
    ),
    'mmdet, other order in validation': (
        dict(val=content(names=['stairs', 'tee', 'wreath']), **MMDET),
        f"val_dataloader.dataset.type='CocoDataset' labels the objects in the order of the "
        f'categories of {VAL}',
    ),
    "mmdet's metric": (
        dict(val=content(ids=(3, 1, 2)), **{'val_evaluator.type': 'CocoMetric'}),
        f'val_evaluator takes the labels in the order of the categories of {VAL}',
    ),
    'classes of validation': (OTHER_ORDER, 'the classes of val_dataloader.dataset ('),
    'heads': (
        HEADS,
        "train_dataloader.dataset has 3 classes ('wreath', 'tee', 'stairs'), but num_classes=8 in "
        'Shared4Conv1FCBBoxHead, FCNMaskHead: state classes=(...) at the top of the config',
    ),
    'file of the evaluator': (
        {'val_evaluator.ann_file': 'data/coco/annotations/instances_val2017.json'},
        "val_evaluator.ann_file='data/coco/annotations/instances_val2017.json' is not the file of "
        "val_dataloader.dataset: set it to 'VAL/val.json'",
    ),
    'no file': (
        {'train_dataloader.dataset.ann_file': 'none.json'},
        'there is no annotation file TRAIN/none.json: check data_root and ann_file',
    ),
    'no json': (dict(train='nothing'), f'{TRAIN} is no json (Expecting value'),
    'unknown categories': (
        dict(train=of(lambda a: a.update(category_id=a['category_id'] - 1))),
        f'{TRAIN} has 4 of 12 annotations of a category_id that no category has (0)',
    ),
    'unknown images': (
        dict(train=of(lambda a: a.update(image_id='x'))),
        f'{TRAIN} has 12 annotations and none is of its images',
    ),
    'ids twice': (dict(train=one('images', 0, id=2)), f'{TRAIN} gives the id of one image to an'),
    'corners': (
        dict(train=of(as_corners)),
        f'the boxes of {TRAIN} look like corners [left, top, right, bottom], as [2, 5, 14, 25] in '
        'an image of [80, 60]',
    ),
    'corners without masks': (
        dict(train=of(lambda a: (as_corners(a), a.pop('segmentation')))),
        f'the boxes of {TRAIN} look like corners',
    ),
    'fractions': (
        dict(train=of(lambda a: a.update(bbox=[0.1, 0.2, 0.3, 0.4]))),
        f'the boxes of {TRAIN} are at most 1, as fractions of the image are',
    ),
    'no area': (
        dict(train=of(lambda a: a.update(bbox=[*a['bbox'][:3], 0]))),
        f'12 of 12 boxes of {TRAIN} are narrower or lower than 1 px',
    ),
    'missing images': (
        dict(train=one('images', 1, file_name='none.png')),
        f'1 of the 4 images of {TRAIN} that were looked for are missing, the first is '
        "'TRAIN/none.png': set train_dataloader.dataset.data_prefix.img to their folder",
    ),
    'folder twice': (
        {
            'train_dataloader.dataset.data_root': '',
            'train_dataloader.dataset.ann_file': 'FOLDER/train/train.json',
            'train_dataloader.dataset.data_prefix.img': 'FOLDER/train/train/',
        },
        "file_name is relative to 'FOLDER/train' already: set train_dataloader.dataset.data_prefix",
    ),
    'folder of another machine': (
        dict(train=one('images', 1, file_name='C:\\data\\1.png')),
        "'TRAIN/C:/data/1.png': write file_name as '1.png', as the images are in 'TRAIN/'",
    ),
    'sizes': (
        dict(train=one('images', 2, width=81)),
        f"1 of 4 images have another size than {TRAIN} says, the first is 'TRAIN/2.png', 80 x 60 "
        'px and not 81 x 60',
    ),
    'small images': (
        {'train_dataloader.dataset.filter_cfg.min_size': 100},
        f'4 of 4 images of {TRAIN} are narrower than 100 px, and left out of the training: set '
        'train_dataloader.dataset.filter_cfg.min_size=1 to keep them',
    ),
    'no masks': (
        dict(train=without('segmentation')),
        f'no object of {TRAIN} has a mask ("segmentation"), which train_dataloader.dataset loads: '
        f'take a {BOXES}',
    ),
    'no masks in validation': (
        dict(val=without('segmentation')),
        f"val_evaluator.metric has 'segm', and no object of {VAL} has a mask: set metric='bbox'",
    ),
    'masks of a network of boxes': (
        dict(config='faster-rcnn_adpe-vit-mini_mini.py', **{'val_evaluator.metric': ['segm']}),
        "val_evaluator.metric has 'segm', and the network has no mask head: set metric='bbox'",
    ),
    'masks are not loaded': (
        {'train_dataloader.dataset.pipeline.1.with_mask': False},
        'the network has a mask head, and train_dataloader.dataset.pipeline loads no masks',
    ),
    "some without masks, mmdet's parts": (
        dict(train=without('segmentation', 2), **PLAIN),
        f"6 of 12 objects of {TRAIN} have no mask: load them with type='adpe_mm.LoadInstances'",
    ),
    'run lengths as polygons': (
        dict(
            train=of(as_run_lengths),
            **PLAIN,
            **{'train_dataloader.dataset.pipeline.1.poly2mask': False},
        ),
        f'12 of 12 masks of {TRAIN} are run lengths, which poly2mask=False makes background of',
    ),
}


@pytest.mark.parametrize('case', PROBLEMS)
def test_problem(tmp_path, case):
    options, sentence = PROBLEMS[case]
    options = {
        key: value.replace('FOLDER', str(tmp_path)) if isinstance(value, str) else value
        for key, value in options.items()
    }
    _, problems = sentences(tmp_path, **options)
    assert any(sentence in problem for problem in problems), problems
    assert len(problems) <= 2 and all(': ' in problem for problem in problems)


WARNINGS = {
    'ids and fields': (
        dict(train=of(lambda a: (a.pop('id'), a.pop('iscrowd'), a.pop('area')))),
        [
            f'{TRAIN} has 12 annotations without a proper "area"',
            f'{TRAIN} has annotations with no i',
        ],
    ),
    'no object of a class': (
        dict(classes=[*NAMES, 'cup']),
        [f"{TRAIN} has no object of 'cup'", f"{VAL} has no object of 'cup'"],
    ),
    'a class that only validation has': (
        dict(train=content(ids=(1, 2), names=NAMES[:2])),
        [
            f"{TRAIN} has no object of 'stairs'",
            f"4 objects of {VAL} are of 'stairs', of which TRAIN",
        ],
    ),
    'a category that is no class': (
        dict(classes=NAMES[:2]),
        [f'4 objects of {TRAIN} are left out, as the classes of train_dataloader', VAL],
    ),
    'some boxes': (
        dict(train=one('annotations', 3, bbox=[90, 10, 20, 20])),
        [f'1 of 12 boxes of {TRAIN} are outside of their image, as [90, 10, 20, 20] of annotation'],
    ),
    'beyond the image': (
        dict(train=one('annotations', 3, bbox=[70, 10, 20, 20])),
        [f'1 of 12 boxes of {TRAIN} are partly outside of their image, as [70, 10, 20, 20]'],
    ),
    'some without masks': (
        dict(train=without('segmentation', 2), val=without('segmentation', 3)),
        [
            f'6 of 12 objects of {TRAIN} have no mask: they train the boxes alone',
            f'4 of 12 objects of {VAL} have no mask: AP of masks leaves out what is found in their',
        ],
    ),
    'images without objects': (
        dict(train=content() | dict(annotations=content()['annotations'][:3])),
        [f'3 of 4 images of {TRAIN} are without an object of the classes, and left out of'],
    ),
    'a file twice': (
        dict(train=one('images', 1, file_name='0.png')),
        [f"{TRAIN} lists 1 files under several ids, as '0.png'"],
    ),
    'annotations of other images': (
        dict(train=content() | dict(images=content()['images'][:3])),
        [f'{TRAIN} has 3 of 12 annotations of images that it does not list, as 4: they are left'],
    ),
}


@pytest.mark.parametrize('case', WARNINGS)
def test_warning(tmp_path, case):
    options, expected = WARNINGS[case]
    warnings, problems = sentences(tmp_path, **options)
    assert not problems and len(warnings) == len(expected)
    for text, warning in zip(expected, warnings, strict=True):
        assert text in warning


def test_other_orders_and_ids_are_no_problem(tmp_path):
    """`CocoDataset` and `CocoMetric` of this package go by the names."""
    val = content(ids=(30, 7, 12), names=['stairs', 'wreath', 'tee'])
    found = sentences(tmp_path, val=val, classes=['tee', 'wreath', 'stairs'])
    assert found == ([], [])


def test_objects_that_are_there_twice(tmp_path):
    data = content()
    data['annotations'].append(dict(data['annotations'][0], id=99))
    warnings, _ = sentences(tmp_path, train=data)
    assert warnings[0].startswith(
        f'1 of 13 objects of {TRAIN} have image, category and box of another'
    )


def test_orientation_counts(tmp_path):
    """A phone stores 60 x 80 as 80 x 60 and an entry; a tool that ignores it writes 80 x 60."""
    (tmp_path / 'train').mkdir()
    upright = Image.fromarray(np.zeros((80, 60, 3), np.uint8))
    save_turned(upright, tmp_path / 'train' / '0.png', 6)
    _, problems = sentences(tmp_path)
    assert problems == [
        f'1 of 4 images have another size than {TRAIN} says, as before its EXIF orientation is '
        "applied, the first is 'TRAIN/0.png', 60 x 80 px and not 80 x 60: correct width and "
        'height, and the boxes if they are of such an image'
    ]
    data = one('images', 0, width=60, height=80)
    assert sentences(tmp_path, train=data)[1] == []


@pytest.mark.parametrize(
    'config', sorted(p.name for p in CONFIGS.glob('*rcnn_adpe-vit-b_100e_coco.py'))
)
def test_every_detector(tmp_path, config):
    """Boxes alone need no masks; each head is compared."""
    boxes = 'mask' not in config
    train = of(lambda a: (a.update(bbox=[3, 3, 30, 30]), a.pop('segmentation')) if boxes else None)
    _, problems = sentences(
        tmp_path, train, train, config, **{'train_dataloader.dataset.filter_cfg.min_size': 1}
    )
    assert not problems
    cfg = make(tmp_path, train, train, config)
    head = cfg.model.roi_head.bbox_head
    (head[2] if isinstance(head, list) else head).num_classes = 4
    assert any('num_classes=4 in Shared4Conv1FCBBoxHead' in p for p in check_data(cfg).problems)
