"""What a check finds in images and masks, and the switches that make a convention trainable."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import ExifTags, Image

from adpe_mm.datasets.checking import check_data
from adpe_mm.launch import read_config

SEG = Path(__file__).parents[2] / 'configs' / 'seg' / 'upernet_adpe-vit-mini_mini.py'
SPLITS = dict(training=3, validation=2)


def write(root: Path, values, mode=None, size=(12, 10)) -> None:
    """Images, and masks whose columns take turns in having the values."""
    for split, count in SPLITS.items():
        images, masks = root / 'images' / split, root / 'annotations' / split
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new('RGB', size, (number, 90, 200)).save(images / f'{number}.jpg')
            mask = np.resize(np.array(values), size[0])[None].repeat(size[1], 0)
            mask = Image.fromarray(mask.astype(np.uint8 if max(values) < 256 else np.uint16))
            if mode == 'P':
                mask.putpalette([255 - n // 3 for n in range(768)])
            elif mode:
                mask = mask.convert(mode)
            mask.save(masks / f'{number}.png')


def config(root, **options):
    settings = {'train_dataloader.batch_size': 2}
    for split in ('train', 'val', 'test'):
        settings[f'{split}_dataloader.dataset.data_root'] = str(root)
    settings |= {key.replace('__', '.'): value for key, value in options.items()}
    return read_config(SEG, settings)


def check(root, every=False, **options):
    return check_data(config(root, **options), every)


def options_of(problem: str, sign='state ') -> dict:
    """The classes and values that a sentence says to state, the first ones."""
    said = problem.split(sign, 1)[1]
    names, _, rest = said.removeprefix('classes=').partition(' and mask_values=')
    return dict(classes=eval(names), mask_values=eval(rest[: rest.index(']') + 1]))


def trained_labels(cfg) -> set[int]:
    """The labels that the pipeline of the training loads from its first mask."""
    dataset = dict(cfg.train_dataloader.dataset)
    dataset['pipeline'] = [s for s in dataset['pipeline'] if 'LoadAnnotations' in s.type]
    with DefaultScope.overwrite_default_scope('mmseg'):
        return set(np.unique(DATASETS.build(dataset)[0]['gt_seg_map']).tolist())


def test_sound_masks(tmp_path):
    write(tmp_path, range(1, 10))
    findings = check(tmp_path)
    assert not findings.problems and not findings.warnings
    assert '3 images, 12 x 10 px' in findings.facts[0]
    assert 'values 1 to 9; corner 16.7%' in findings.facts[1]  # 2 of 12 columns


def test_background_of_zero_is_one_switch(tmp_path):
    """Today's default ignores 0 and moves the names; one line says what 0 is."""
    write(tmp_path, [0, 1, 2])
    names = ['background', 'road', 'tree']
    problem = check(tmp_path, classes=names).problems[0]
    assert "ignores 0 and makes 1 the class 'background'" in problem
    right = options_of(problem)
    assert right == dict(classes=names, mask_values=[0, 1, 2])
    cfg = config(tmp_path, **right)
    assert not check_data(cfg).problems and trained_labels(cfg) == {0, 1, 2}
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
    # or mmseg's switch, which the pipelines of our configs follow
    both = {f'{s}_dataloader__dataset__reduce_zero_label': False for s in ('train', 'val', 'test')}
    cfg = config(tmp_path, classes=names, **both)
    assert not check_data(cfg).problems and trained_labels(cfg) == {0, 1, 2}


@pytest.mark.parametrize(
    'values, labels', [((1, 2), {0, 1, 255}), ((2, 1), {0, 1, 255}), ((0, 1), {0, 1, 255})]
)
def test_values_say_what_is_ignored(tmp_path, values, labels):
    write(tmp_path, [0, 1, 2])
    cfg = config(tmp_path, classes=['road', 'tree'], mask_values=values)
    assert not check_data(cfg).problems and trained_labels(cfg) == labels


def test_names_without_the_background(tmp_path):
    write(tmp_path, [0, 1, 2])
    unreduced = {f'{s}_dataloader__dataset__reduce_zero_label': False for s in ('train', 'val')}
    problem = check(tmp_path, classes=['road', 'tree'], **unreduced).problems[0]
    assert 'has the value 2, but the 2 classes' in problem and 'have 0 to 1' in problem
    assert options_of(problem) == dict(classes=['road', 'tree'], mask_values=[1, 2])
    assert "['background', 'road', 'tree'] and mask_values=[0, 1, 2]" in problem
    # With reduce_zero_label the same masks are right, and 0 has no class.
    assert not check(tmp_path, classes=['road', 'tree']).problems


def test_binary_masks(tmp_path):
    """255 is mmseg's number of what is ignored: a loss of 0, and an mIoU of nan."""
    write(tmp_path, [0, 255])
    problem = check(tmp_path, classes=['background', 'road']).problems[0]
    assert 'have the values 0 and 255' in problem
    cfg = config(tmp_path, **options_of(problem))
    assert not check_data(cfg).problems and trained_labels(cfg) == {0, 1}


def test_one_class(tmp_path):
    write(tmp_path, [0, 1])
    problem = check(tmp_path, classes=['road']).problems[0]
    assert "classes=('background', 'road') with mask_values=(0, 1), or (0, 255)" in problem
    cfg = config(tmp_path, classes=['background', 'road'], mask_values=[0, 1])
    assert not check_data(cfg).problems and trained_labels(cfg) == {0, 1}


def test_switches_that_disagree(tmp_path):
    write(tmp_path, range(1, 10))
    cfg = config(tmp_path)
    cfg.val_dataloader.dataset.pipeline[2].reduce_zero_label = False
    (problem,) = check_data(cfg).problems
    assert 'val_dataloader.dataset.reduce_zero_label=True' in problem and '=False: leave' in problem


def test_mask_values_must_make_sense(tmp_path):
    for wrong, sentence in [
        ([0], '1 values for 2 classes'), ([1, 1], 'twice'), ('0', 'no list'), (3, 'no list'),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            config(tmp_path, classes=['road', 'tree'], mask_values=wrong)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_masks_of_colours(tmp_path, mode):
    write(tmp_path, range(1, 10), mode)
    problem = check(tmp_path).problems[0]
    assert f'(mode {mode})' in problem and 'annotations/training/0.png' in problem


def test_palettes_are_numbers(tmp_path):
    write(tmp_path, range(1, 10), 'P')
    cfg = config(tmp_path)
    assert not check_data(cfg).problems and trained_labels(cfg) == set(range(9))


def test_16_bits(tmp_path):
    write(tmp_path, [1000, 2000])
    names = dict(classes=['road', 'tree'])
    assert 'has the value 1000, and mmseg keeps 8 bits' in check(tmp_path, **names).problems[0]
    cfg = config(tmp_path, **names, mask_values=[2000, 1000])
    assert not check_data(cfg).problems and trained_labels(cfg) == {0, 1}


def test_labels_beyond_the_classes(tmp_path):
    write(tmp_path, [1, 5, 12])
    (problem,) = check(tmp_path).problems[:1]
    assert 'annotations/training/0.png' in problem and 'has the value 12' in problem
    assert 'the 9 classes' in problem and 'have 1 to 9' in problem


def test_only_ignored_pixels(tmp_path):
    write(tmp_path, [0])
    assert 'no pixel of the masks' in check(tmp_path).problems[0]
    write(tmp_path, range(1, 10))
    Image.new('L', (12, 10), 255).save(tmp_path / 'annotations/training/1.png')
    findings = check(tmp_path)
    assert not findings.problems
    assert '1 of 3 masks' in findings.warnings[0] and 'training/1.png' in findings.warnings[0]


def test_sizes_of_masks(tmp_path):
    write(tmp_path, range(1, 10))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a phone held upright: its mask is as it is seen
    Image.new('RGB', (10, 12)).save(tmp_path / 'images/training/0.jpg', exif=exif)
    assert not check(tmp_path).problems
    Image.new('RGB', (24, 20)).save(tmp_path / 'images/training/2.jpg')
    (problem,) = check(tmp_path).problems
    assert 'training/2.png' in problem and '12 x 10 px' in problem and '24 x 20' in problem


def test_jpegs_are_no_masks(tmp_path):
    write(tmp_path, range(1, 10))
    for path in tmp_path.glob('annotations/*/*.png'):
        Image.open(path).save(path.with_suffix('.jpg'))
    suffix = {f'{s}_dataloader__dataset__seg_map_suffix': '.jpg' for s in ('train', 'val')}
    assert 'is a JPEG' in check(tmp_path, **suffix).problems[0]


def test_images_and_masks_belong_together(tmp_path):
    write(tmp_path, range(1, 10))
    folder = tmp_path / 'annotations' / 'training'
    mask = (folder / '0.png').rename(folder / 'x.png')
    (problem,) = check(tmp_path).problems
    assert "1 of 3 images of train_dataloader.dataset have no mask, such as '0.jpg'" in problem
    mask.rename(folder / '0_labels.png')
    assert "seg_map_suffix='_labels.png'" in check(tmp_path).problems[0]
    (folder / '0_labels.png').rename(folder / '0.png')
    Image.new('L', (12, 10)).save(folder / 'more.png')
    Image.new('RGB', (12, 10)).save(tmp_path / 'images/training/7.png')
    findings = check(tmp_path)
    assert not findings.problems
    assert any('1 masks of' in text and "'more.png'" in text for text in findings.warnings)
    assert any("'7.png'" in text and "img_suffix='.jpg'" in text for text in findings.warnings)


def test_suffix_of_images(tmp_path):
    write(tmp_path, range(1, 10))
    for path in (tmp_path / 'images/training').iterdir():
        path.rename(path.with_suffix('.jpeg'))
    (problem,) = check(tmp_path).problems
    assert "train_dataloader.dataset.img_suffix='.jpeg'" in problem
    (problem,) = check(tmp_path, train_dataloader__dataset__data_root='nowhere').problems
    assert "there is no folder 'nowhere/images/training'" in problem


def test_heads_and_names(tmp_path):
    write(tmp_path, range(1, 10))
    (problem,) = check(tmp_path, model__auxiliary_head__num_classes=8).problems[:1]
    assert 'has 9 classes' in problem and 'num_classes=8 in 1 of 2 heads' in problem
    assert 'model.decode_head.num_classes=9 model.auxiliary_head.num_classes=9' in problem
    names = dict(val_dataloader__dataset__metainfo__classes=[f'c{n}' for n in range(9)])
    assert any('give both the same' in text for text in check(tmp_path, **names).problems)
    text = dict(train_dataloader__dataset__metainfo=dict(classes='ship'))
    assert "classes=('ship',)" in check(tmp_path, **text).problems[0]
    ours = dict(classes=[f'c{n}' for n in range(9)], palette=[[1, 2, 3]])
    text = dict(train_dataloader__dataset__metainfo=ours)
    assert '1 colours for 9 classes: leave palette out' in check(tmp_path, **text).problems[0]
    ade = dict(classes=ours['classes'], train_dataloader__dataset__type='ADE20KDataset')
    assert "type='BaseSegDataset' for classes of your own" in check(tmp_path, **ade).problems[0]
    none = dict(train_dataloader__dataset__metainfo=None)
    assert 'has no names of classes' in check(tmp_path, **none).problems[0]


def test_one_image_in_a_batch(tmp_path):
    """The branch of UperNet that is pooled to 1 x 1 has one value to normalise."""
    write(tmp_path, range(1, 10))
    (problem,) = check(tmp_path, train_dataloader__batch_size=1).problems
    assert 'train_dataloader.batch_size=1, but UPerHead' in problem
    said = dict(part.split('=') for part in problem.split(', or ')[1].split())
    assert said == {
        'model.decode_head.norm_cfg.type': 'GN', 'model.decode_head.norm_cfg.num_groups': '32',
    }  # fmt: skip
    groups = {key: int(value) if value.isdigit() else value for key, value in said.items()}
    assert not check(tmp_path, train_dataloader__batch_size=1, **groups).problems
    epochs = dict(train_dataloader__sampler__type='DefaultSampler')  # 3 images, 2 in a batch
    assert '3 images in batches of 2' in check(tmp_path, **epochs).problems[0]
    assert not check(tmp_path, **epochs, train_dataloader__drop_last=True).problems
