"""Labels follow the names of the classes; what a file lacks is filled in or named."""

import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset as MMDetCocoDataset
from pycocotools import mask as masks

from adpe_mm.datasets.coco_reading import read_coco, usable_mask
from adpe_mm.detection import CocoDataset
from adpe_mm.errors import MissingFile, UserError
from tests.test_detection.coco_files import NAMES, SIZE, content, rectangle, write


def dataset(path, classes=NAMES, kind=CocoDataset, **options):
    metainfo = dict(classes=classes) if classes is not None else None
    prefix = dict(img=str(path).rpartition('/')[0])
    return kind(ann_file=str(path), data_prefix=prefix, metainfo=metainfo, **options)


def names_of(data) -> list[dict]:
    """The class of each box of each image, by its left edge, which says what it is."""
    found = []
    for n in range(len(data)):
        for instance in data.get_data_info(n)['instances']:
            drawn = NAMES[int(instance['bbox'][0]) // 20]
            found.append((drawn, data.metainfo['classes'][instance['bbox_label']]))
    return found


@pytest.mark.parametrize('classes', [NAMES, NAMES[::-1], ['tee', 'wreath', 'stairs'], ['tee']])
@pytest.mark.parametrize('ids', [(1, 2, 3), (30, 7, 12), (0, 1, 2)])
@pytest.mark.parametrize('order', [NAMES, NAMES[::-1]])
def test_labels_are_the_numbers_of_the_names(tmp_path, classes, ids, order):
    found = names_of(dataset(write(tmp_path, content(ids=ids, names=order)), classes))
    assert len(found) == 4 * len(classes)
    assert all(drawn == said for drawn, said in found)


def test_mmdet_gives_other_names(tmp_path):
    """What this class is for: it fails if mmdet one day follows the names itself."""
    path = write(tmp_path, content())
    found = names_of(dataset(path, NAMES[::-1], MMDetCocoDataset))
    assert any(drawn != said for drawn, said in found)


def coco_like() -> dict:
    """COCO's 80 names and ids, which leave some out, with crowds and objects in several parts."""
    names = MMDetCocoDataset.METAINFO['classes']
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = [id for id in range(1, 91) if id not in unused]
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image in range(30):
        height, width = (int(v) for v in rng.integers(20, 500, 2))
        images.append(dict(id=7 * image + 3, file_name=f'{image}.jpg', height=height, width=width))
        for _ in range(int(rng.integers(0, 9))):
            x, y = rng.uniform(-0.1, 0.8) * width, rng.uniform(0, 0.8) * height
            w, h = rng.uniform(0.2, 0.5) * width, rng.uniform(0, 0.5) * height
            shape = rectangle(x, y, w, h) + (
                rectangle(x, y, w / 2, h) if rng.random() < 0.5 else []
            )
            crowd = int(rng.random() < 0.2)
            if crowd:
                shape = dict(counts=[10, 20, height * width - 30], size=[height, width])
            annotations.append(
                dict(
                    id=len(annotations) + 1000,
                    image_id=images[-1]['id'],
                    category_id=int(rng.choice(ids)),
                    bbox=[x, y, w, h],
                    area=w * h * 0.7,
                    iscrowd=crowd,
                    segmentation=shape,
                )
            )
    categories = [dict(id=i, name=n) for i, n in zip(ids, names, strict=True)]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.mark.parametrize('test_mode', [False, True])
def test_coco_is_as_with_mmdet(tmp_path, test_mode):
    options = dict(test_mode=test_mode, filter_cfg=dict(filter_empty_gt=True, min_size=32))
    path = write(tmp_path, coco_like())
    ours = dataset(path, None, **options)
    theirs = dataset(path, None, MMDetCocoDataset, **options)
    assert ours.metainfo == theirs.metainfo and len(ours) == len(theirs) > 10
    for n in range(len(ours)):
        assert ours.get_data_info(n) == theirs.get_data_info(n)
    assert sum(len(ours.get_data_info(n)['instances']) for n in range(len(ours))) > 30


@pytest.mark.parametrize(
    'classes, sentence',
    [
        (['wreeth', 'tee', 'stairs'], "'wreeth' (nearest: 'wreath') is no category of PATH"),
        (['Wreath', 'tee', 'stairs'], "'Wreath' (nearest: 'wreath') is no category of PATH"),
        (['ring', 'tee', 'stairs'], "'ring' is no category of PATH, which has 'wreath' besides"),
        (['tree', 'road'], "none of the classes 'tree', 'road' is a category of PATH: name its "),
        (['tree'], "classes=('wreath', 'tee', 'stairs',), at the top of the config"),
        (None, "'motorcycle', 'airplane', 'bus', 'train', 'truck' and 72 more is a category"),
        ('tee', "classes='tee' is neither a list of names nor a file of them: put a comma"),
        (['tee', 'tee'], "classes has 'tee' twice"),
    ],
)
def test_names_that_do_not_agree(tmp_path, classes, sentence):
    path = write(tmp_path, content())
    with pytest.raises(UserError) as error:
        dataset(path, classes)
    assert sentence.replace('PATH', path) in str(error.value)


def test_one_class_and_a_file_of_classes(tmp_path):
    path = write(tmp_path, content())
    (tmp_path / 'classes.txt').write_text('stairs\ntee\n')
    data = dataset(path, str(tmp_path / 'classes.txt'))
    assert list(data.metainfo['classes']) == ['stairs', 'tee']
    assert names_of(data) == [('tee', 'tee'), ('stairs', 'stairs')] * 4


def test_a_class_without_category_keeps_the_others_labels(tmp_path):
    """A validation set may lack one; another file may have it."""
    found = names_of(dataset(write(tmp_path, content()), ['cup', *NAMES]))
    assert all(drawn == said for drawn, said in found) and len(found) == 12


def changed(**changes):
    """A file in which each annotation is changed: by a value, or a function of it."""
    data = content()
    for annotation in data['annotations']:
        for key, change in changes.items():
            value = change(annotation[key]) if callable(change) else change
            annotation[key] = value
    return data


@pytest.mark.parametrize('field', ['id', 'iscrowd', 'area', 'bbox', 'segmentation'])
@pytest.mark.parametrize('missing', [True, False])
def test_missing_fields_are_filled_in(tmp_path, field, missing):
    data = changed(**{field: None})
    if missing:
        for annotation in data['annotations']:
            del annotation[field]
    whole = read_coco(write(tmp_path, content(), 'whole.json'))
    filled = read_coco(write(tmp_path, data))
    if field == 'segmentation':
        assert filled.without_mask == 12
        for annotation in whole.annotations:
            del annotation['segmentation']
    assert filled.annotations == whole.annotations and not filled.problems
    said = {'id': 'numbered anew', 'area': 'without a proper "area"', 'bbox': 'proper "bbox"'}
    assert len(filled.notes) == (field in said)
    assert said.get(field, '') in ''.join(filled.notes)


SAME = [
    dict(id=str, image_id=str, category_id=str),
    dict(id=float, image_id=float, category_id=float),
    dict(id=0),
    dict(id=lambda i: i % 5),
    dict(area=0),
    dict(iscrowd=False),
    dict(bbox=lambda box: list(map(str, box))),
    dict(segmentation=lambda polygons: polygons[0]),
    dict(segmentation=lambda p: [[p[0][i : i + 2] for i in range(0, 8, 2)]]),
    dict(segmentation=lambda p: [p[0][i : i + 2] for i in range(0, 8, 2)]),
    dict(segmentation=lambda polygons: [*polygons, [1, 2, 3, 4], [], [1, 2, 3, 4, 5, 6, 7]]),
]


@pytest.mark.parametrize('changes', SAME)
def test_what_tools_write_is_read_the_same(tmp_path, changes):
    whole = read_coco(write(tmp_path, content(), 'whole.json'))
    found = read_coco(write(tmp_path, changed(**changes)))
    assert found.annotations == whole.annotations and not found.problems


def test_ids_of_images_and_categories_that_are_texts(tmp_path):
    data = content()
    for entry in data['images'] + data['categories']:
        entry['id'] = f'{entry["id"]:06d}'
    for image in data['images']:
        image.update(height=f'{SIZE[0]}', width=float(SIZE[1]), file_name=f'sub\\{image["id"]}.png')
    found = read_coco(write(tmp_path, data))
    assert found.annotations == content()['annotations']
    assert [image['id'] for image in found.images] == [1, 2, 3, 4]
    assert {(i['height'], i['width'], i['file_name'][:4]) for i in found.images} == {
        (60, 80, 'sub/')
    }
    # Names in the place of numbers stay.
    data = content()
    for image in data['images']:
        image['id'] = f'of {image["id"]}'
    for annotation in data['annotations']:
        annotation['image_id'] = f'of {annotation["image_id"]}'
    assert len(names_of(dataset(write(tmp_path, data)))) == 12


def broken(change):
    data = content()
    change(data)
    return data


def drop(part, field, *which):
    def change(data):
        for n in which or range(len(data[part])):
            del data[part][n][field]

    return change


def put(part, which, **values):
    return lambda data: data[part][which].update(values)


@pytest.mark.parametrize(
    'data, sentence',
    [
        ('{', 'is no json (Expecting'),
        ([], 'is a list, as files of results are: a json in the form of COCO has'),
        (3, 'is no object: a json'),
        (dict(images=[]), "is without 'annotations', 'categories': a json in the form"),
        (dict(content(), images=['0.png']), 'has \'0.png\' as images[0]: each of "images" is an'),
        (broken(drop('images', 'width', 2)), 'without a proper "width", the first is images[2]'),
        (broken(put('images', 1, height='60 px')), 'has 1 images without a proper "height", the'),
        (broken(drop('categories', 'name', 1)), 'has categories without "id" or "name"'),
        (broken(put('categories', 0, id=2)), 'gives the id of one category to another 1 times'),
        (broken(put('categories', 0, name='tee')), "has several categories of the name 'tee'"),
        (broken(put('images', 0, id=2)), "as 2 to '0.png' and '1.png': give each an id of its own"),
        (
            broken(put('images', 0, id='a')),
            'has ids of images that are numbers and others that are',
        ),
        (changed(image_id='0.png'), 'none is of its images: "image_id" of the first is \'0.png\''),
        (
            changed(category_id=0),
            'has 12 of 12 annotations of a category_id that no category has (0)',
        ),
        (broken(put('annotations', 4, bbox=[1, 2, 3])), 'the first is annotations[4] with [1.0, 2'),
        (broken(put('annotations', 4, bbox=[1, 2, 3, float('nan')])), 'annotations[4] with [1'),
        (changed(segmentation=None, bbox=None), 'has 12 annotations without a "bbox" of four'),
        (
            changed(segmentation=dict(size=[80, 60], counts=[0, 80 * 60])),
            'has 12 masks in run-length encoding of another size than their image, as [80, 60] in '
            'an image of [60, 80]',
        ),
    ],
)
def test_what_has_to_be_mended_in_the_file(tmp_path, data, sentence):
    path = write(tmp_path, data)
    with pytest.raises(UserError) as error:
        dataset(path)
    assert str(error.value).startswith(path) and sentence.replace('[1.0, 2', '[1, 2') in str(
        error.value
    )


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(
        MissingFile, match='there is no annotation file .*none.json: check data_root'
    ):
        dataset(tmp_path / 'none.json')
    with pytest.raises(UserError, match='is a folder: ann_file names a json file'):
        dataset(tmp_path)


def test_what_is_left_out_is_said(tmp_path):
    data = content()
    data['images'] = data['images'][:3] + data['images'][:1]
    data['annotations'][0]['segmentation'] = [[1, 2, 3, 4]]
    found = read_coco(write(tmp_path, data))
    assert len(found.images) == 3 and len(found.annotations) == 9 and not found.problems
    assert [note.partition('objects.json ')[2][:40] for note in found.notes] == [
        'lists 1 images twice, which count once',
        'has 3 of 12 annotations of images that i',
        'has 1 annotations whose "segmentation" i',
    ]


def test_nothing_left_to_train_on(tmp_path):
    path = write(tmp_path, content())
    options = dict(filter_cfg=dict(filter_empty_gt=True, min_size=100))
    with pytest.raises(UserError, match=r"none of the 4 images of .*'min_size': 100"):
        dataset(path, **options)
    assert len(dataset(path, test_mode=True, **options)) == 4


def test_a_mask_is_polygons_or_run_lengths():
    bits = np.zeros((5, 6), np.uint8, order='F')
    bits[1:3, 2:5] = 1
    packed = masks.encode(bits)
    packed['counts'] = packed['counts'].decode()
    for usable in ([[0, 0, 4, 0, 4, 4]], packed, json.loads(json.dumps(packed))):
        assert usable_mask(usable) == usable
    for nothing in (None, [], {}, [[]], [[1, 2, 3, 4]], dict(size=[5, 6]), 'x', [[1, 2, 3, 4, 5]]):
        assert usable_mask(nothing) is None
