import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from adpe_mm.datasets.cutouts import Cutouts, Options, hold_out, paste, paste_cutouts
from adpe_mm.errors import UserError

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'paste_cutouts.py'
COLOURS = dict(red=(200, 20, 20), blue=(20, 20, 200))
SMALL = Options(train=12, val=8, unlabelled=4, size=64, others=1)


@pytest.fixture
def source(tmp_path):
    """Discs of two colours, six of each, whose red or blue is the number of the object; grey
    photographs, whose level is their number."""
    for name, colour in COLOURS.items():
        folder = tmp_path / name
        folder.mkdir()
        for i in range(6):
            image = np.zeros((40, 60, 4), np.uint8)
            cv2.circle(image, (30, 20), 18, (*colour, 255), -1)
            image[..., COLOURS[name].index(200)] -= 20 * i * (image[..., 3] > 0).astype(np.uint8)
            Image.fromarray(image).save(folder / f'{i}.png')
    (tmp_path / 'photos').mkdir()
    for i in range(4):
        Image.new('RGB', (90, 70), (100 + 10 * i,) * 3).save(tmp_path / 'photos' / f'{i}.png')
    return tmp_path


def categories(source):
    return {name: [str(source / name)] for name in COLOURS}


def test_objects_and_photographs_of_the_test_are_never_trained_on(source):
    scenes = Cutouts(SMALL, categories(source), str(source / 'photos'))
    for files in (*scenes.objects, scenes.backgrounds):
        assert files['train'] and files['val'] and not set(files['train']) & set(files['val'])
    assert [len(files['val']) for files in scenes.objects] == [2, 2]  # 35 % of six
    for split in ('train', 'unlabelled', 'val'):
        allowed = {Path(p).stem for p in scenes.backgrounds['val' if split == 'val' else 'train']}
        for index in range(12):
            image, seen, _ = scenes.draw(split, index)
            level = np.median(image[seen == 0])
            assert str(round((level - 100) / 10)) in allowed


def test_what_is_seen_where_is_what_the_labels_say(source):
    scenes = Cutouts(SMALL, categories(source), str(source / 'photos'))
    for index in range(12):
        image, seen, labels = scenes.draw('train', index)
        assert labels[-1] == index % 2  # the main one, in front
        assert image.shape == (64, 64, 3) and seen.max() == len(labels)
        for number, label in enumerate(labels, 1):
            red, green, blue = image[seen == number].mean(0)
            assert green < 90 and (red > blue) == (label == 0)


def test_a_cutout_keeps_its_shape_at_any_size():
    """A disc covers as much as its pixels do, scaled, however much it is shrunk or turned."""
    for side in (20, 100, 250):
        disc = np.zeros((side, side, 4), np.uint8)
        cv2.circle(disc, (side // 2, side // 2), side // 2 - 1, (255, 255, 255, 255), -1)
        expected = np.count_nonzero(disc[..., 3]) * (32 / side) ** 2
        for seed in range(5):
            image = np.zeros((64, 64, 3), np.float32)
            cover = paste(np.random.default_rng(seed), image, disc, share=0.5)
            assert cover.sum() == pytest.approx(expected, rel=0.02)
            assert image[cover].min() > 0.3 and image[~cover].max() < 0.7


def test_the_split_is_of_names_and_not_of_places():
    names = [f'{i}.png' for i in range(10)]
    first = hold_out([f'/a/{name}' for name in names], 30, seed=0)
    second = hold_out([f'/b/c/{name}' for name in names], 30, seed=0)
    assert [Path(p).name for p in first['val']] == [Path(p).name for p in second['val']]
    assert hold_out([f'/a/{name}' for name in names], 30, seed=1) != first


def test_layouts_and_command(source):
    out = source / 'out'
    objects = [f'{name}={source / name}' for name in COLOURS]
    command = [sys.executable, TOOL, out, '--photos', source / 'photos', '--objects', *objects]
    command += ['--train', '12', '--val', '8', '--unlabelled', '4', '--others', '1']
    subprocess.run(command, check=True, capture_output=True)
    assert len(list((out / 'imagenet' / 'val' / 'blue').iterdir())) == 4
    assert len(list((out / 'unlabelled').iterdir())) == 4
    mask = np.asarray(Image.open(out / 'ade/annotations/training/train_000001.png'))
    assert set(np.unique(mask)) <= {1, 2, 3} and 1 in mask and 3 in mask  # red on background
    coco = json.loads((out / 'coco/annotations/instances_val2017.json').read_text())
    assert [item['name'] for item in coco['categories']] == list(COLOURS)
    assert len(coco['images']) == 8 and len(coco['annotations']) >= 8

    other = source / 'other'
    paste_cutouts(other, SMALL, categories(source), str(source / 'photos'), workers=1)
    for path in out.rglob('*.*'):
        assert path.read_bytes() == (other / path.relative_to(out)).read_bytes()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 'is there already' in again.stdout
    again = subprocess.run([*command, '--seed', '1'], capture_output=True, text=True)
    assert again.returncode and again.stderr.count('\n') == 1 and '--overwrite' in again.stderr


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda source: [p.unlink() for p in (source / 'red').glob('[1-5]*')], 'needs two'),
        (lambda source: [p.unlink() for p in (source / 'photos').glob('[1-3]*')], 'one photograph'),
        (lambda source: (source / 'red' / '3.png').write_bytes(b'no'), '3.png'),
    ],
)
def test_too_little_to_work_with(source, spoil, message):
    spoil(source)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        Cutouts(SMALL, categories(source), str(source / 'photos'))


def test_options_that_make_no_sense():
    for option, value in dict(train=0, size=8, held_out=100, quality=0, seed=-1).items():
        with pytest.raises(UserError, match=option.replace('_', '-')):
            Options(**{option: value})
