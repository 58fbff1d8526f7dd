"""predict.py writes what the libraries' own inferencers find, for every image, once."""

import csv
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.apis import ImageClassificationInferencer
from mmseg.apis import MMSegInferencer
from PIL import Image
from pycocotools.coco import COCO

from adpe_mm.registry import MODELS

ROOT = Path(__file__).parents[2]
CONFIGS = dict(
    cls=ROOT / 'configs' / 'cls' / 'adpe-vit-mini_mini.py',
    seg=ROOT / 'configs' / 'seg' / 'upernet_adpe-vit-mini_mini.py',
    det=ROOT / 'configs' / 'det' / 'mask-rcnn_adpe-vit-mini_mini.py',
)
NAMES = ['a/x.jpg', 'a/x.png', 'b/x.jpg', 'b/c.d/ünï v1.2.jpg', 'b/y.png.jpg', 'b/y.png']
RESULTS = ['a/x.jpg', 'a/x.png', 'b/x', 'b/c.d/ünï v1.2', 'b/y.png.jpg', 'b/y']
CLASSES = ('corner', 'cross', 'cup', 'flag', 'snake', 'stairs', 'tee', 'wreath')


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Untrained networks of the three tasks, with the classes that a training keeps."""
    found = {}
    for task, path in CONFIGS.items():
        cfg = Config.fromfile(path)
        cfg.model.backbone.init_cfg = None
        init_default_scope(cfg.default_scope)
        torch.manual_seed(1)
        meta = cfg.test_dataloader.dataset.to_dict().get('metainfo', dict(classes=CLASSES))
        content = dict(state_dict=MODELS.build(cfg.model).state_dict())
        found[task] = tmp_path_factory.mktemp('networks') / f'{task}.pth'
        torch.save(dict(content, meta=dict(dataset_meta=meta)), found[task])
    return found


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder whose names are as unlike as may be, with a deep and a broken file."""
    folder, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8))
        small.resize((72, 50), Image.Resampling.BICUBIC).save(path)
    deep = np.asarray(Image.open(folder / 'a' / 'x.png').convert('L')).astype(np.uint16)
    cv2.imwrite(str(folder / 'b' / 'y.png'), 8 * deep)  # 11 bits in 16
    return folder


def predict(monkeypatch, capsys, *arguments):
    """The command, as a user calls it: its exit code, and what it says."""
    command = ROOT / 'tools' / 'visualizations' / 'predict.py'
    monkeypatch.setattr(sys, 'argv', ['predict.py', *map(str, arguments), '--device', 'cpu'])
    try:
        runpy.run_path(str(command), run_name='__main__')
    except SystemExit as end:
        return 1, capsys.readouterr().out + str(end.code)
    return 0, capsys.readouterr().out


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


def pictures(folder):
    return {f'{folder}/{name}.png' for name in RESULTS}


def test_class_scores(checkpoints, images, tmp_path, monkeypatch, capsys):
    code, said = predict(
        monkeypatch, capsys, CONFIGS['cls'], checkpoints['cls'], images, '--out', tmp_path
    )
    assert code == 0 and 'wrote the predictions of 6 images' in said and 'stopped' not in said
    assert files(tmp_path) == {'scores.csv'} | pictures('drawn')
    with open(tmp_path / 'scores.csv', newline='', encoding='utf-8') as file:
        rows = {row['image']: row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(NAMES)
    inferencer = ImageClassificationInferencer(str(CONFIGS['cls']), str(checkpoints['cls']))
    for name, row in rows.items():
        (reference,) = inferencer(str(images / name))
        assert row['prediction'] == reference['pred_class']
        scores = [float(row[label]) for label in CLASSES]
        np.testing.assert_allclose(scores, reference['pred_scores'], rtol=1e-4)
        assert float(row['score']) == max(scores)


def test_masks_are_numbered_as_those_to_train_with(
    checkpoints, images, tmp_path, monkeypatch, capsys
):
    code, _ = predict(
        monkeypatch, capsys, CONFIGS['seg'], checkpoints['seg'], images, '--out', tmp_path
    )
    assert code == 0
    assert files(tmp_path) == {'classes.csv'} | pictures('drawn') | pictures('masks')
    with open(tmp_path / 'classes.csv', newline='', encoding='utf-8') as file:
        rows = {int(row['value']): row for row in csv.DictReader(file)}
    assert [rows[value]['class'] for value in range(1, 10)] == [*CLASSES, 'background']
    inferencer = MMSegInferencer(str(CONFIGS['seg']), str(checkpoints['seg']), device='cpu')
    for name, result in zip(NAMES, RESULTS, strict=True):
        mask = Image.open(tmp_path / 'masks' / f'{result}.png')
        # The data set has reduce_zero_label: its masks have 1 for the first class.
        values = inferencer(str(images / name))['predictions'] + 1
        assert np.array_equal(np.asarray(mask), values)
        red, green, blue = np.asarray(mask.convert('RGB'))[20, 30]
        row = rows[values[20, 30]]
        assert [int(row[c]) for c in ('red', 'green', 'blue')] == [red, green, blue]


def test_boxes_are_a_data_set_of_coco(checkpoints, images, tmp_path, monkeypatch, capsys):
    code, _ = predict(
        monkeypatch, capsys, CONFIGS['det'], checkpoints['det'], images, '--out', tmp_path,
        '--attention', '--score', '0.1',
    )  # fmt: skip
    assert code == 0
    assert files(tmp_path) == {'boxes.json'} | pictures('drawn') | pictures('attention')
    coco = COCO(tmp_path / 'boxes.json')
    assert [coco.cats[i]['name'] for i in range(1, 9)] == list(CLASSES)
    inferencer = DetInferencer(str(CONFIGS['det']), str(checkpoints['det']), device='cpu')
    assert {image['file_name'] for image in coco.imgs.values()} == set(NAMES)
    for image in coco.imgs.values():
        assert (image['width'], image['height']) == (72, 50)
        path = str(images / image['file_name'])
        reference = inferencer(path, return_datasamples=True)['predictions'][0].pred_instances
        found = coco.loadAnns(coco.getAnnIds(imgIds=image['id']))
        assert len(found) == len(reference) > 0
        boxes = np.array([entry['bbox'] for entry in found])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, reference.bboxes, atol=0.02)
        assert [entry['category_id'] - 1 for entry in found] == reference.labels.tolist()
        np.testing.assert_allclose([e['score'] for e in found], reference.scores, atol=1e-4)
        for entry, mask in zip(found, reference.masks, strict=True):
            assert np.array_equal(coco.annToMask(entry), mask)
            assert entry['area'] == mask.sum()


def test_a_broken_file_does_not_end_it(checkpoints, images, tmp_path, monkeypatch, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'broken.jpg').write_bytes(b'broken')
    (tmp_path / 'in' / 'empty.png').write_bytes(b'')
    Image.new('RGB', (3000, 1), 'red').save(tmp_path / 'in' / 'line.png')
    code, said = predict(
        monkeypatch, capsys, CONFIGS['seg'], checkpoints['seg'], tmp_path / 'in', images / 'b',
        '--out', tmp_path / 'out', '--max', 4,
    )  # fmt: skip
    assert code == 1
    assert 'wrote the predictions of 1 images' in said
    assert 'stopped after 4 of 7 images: --max 7 takes all' in said
    assert '3 of 4 images cannot be read' in said
    assert len([name for name in files(tmp_path / 'out') if name.startswith('masks/')]) == 1


def test_results_in_a_folder_of_images_are_not_images(checkpoints, tmp_path, monkeypatch, capsys):
    Image.new('RGB', (64, 64), 'red').save(tmp_path / 'x.png')
    arguments = CONFIGS['cls'], checkpoints['cls'], tmp_path, '--out', tmp_path / 'predictions'
    for _ in range(2):
        _, said = predict(monkeypatch, capsys, *arguments)
        assert 'wrote the predictions of 1 images' in said
    assert files(tmp_path) == {'x.png', 'predictions/scores.csv', 'predictions/drawn/x.png'}


@pytest.mark.parametrize(
    'arguments, sentence',
    [(('--max', '0'), '--max must be at least 1'), (('--out', __file__), 'must be a folder')],
)
def test_mistakes_are_one_sentence(
    checkpoints, images, tmp_path, monkeypatch, capsys, arguments, sentence
):
    if '--out' not in arguments:
        arguments = (*arguments, '--out', tmp_path)
    code, said = predict(
        monkeypatch, capsys, CONFIGS['cls'], checkpoints['cls'], images, *arguments
    )
    assert code == 1 and sentence in said


def test_json_of_boxes_without_any(tmp_path):
    from adpe_mm.evaluation.prediction_files import Boxes

    with Boxes(tmp_path, ['ship']):
        pass
    content = json.loads((tmp_path / 'boxes.json').read_text())
    assert content == dict(images=[], annotations=[], categories=[dict(id=1, name='ship')])
