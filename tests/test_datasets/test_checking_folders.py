"""What a check finds in class folders, in lists of labels, and in folders without labels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adpe_mm.datasets.checking import check_data
from adpe_mm.datasets.checking.files import sample
from adpe_mm.launch import read_config

ROOT = Path(__file__).parents[2]
CLS = ROOT / 'configs' / 'cls' / 'adpe-vit-mini_mini.py'
LINEAR = ROOT / 'configs' / 'cls' / 'adpe-vit-b_linear-90e_in1k.py'
PRETRAIN = ROOT / 'configs' / 'pretrain' / 'adpe_vit-mini_mini.py'
NAMES = ['ant', 'bee', 'cat', 'dog']


def draw(path: Path, size=(8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """3 images to train on and 2 to validate with of each of four classes."""
    for split, count in dict(train=3, val=2).items():
        for name in NAMES:
            for number in range(count):
                draw(tmp_path / split / name / f'{number}.png')
    return tmp_path


def check(root, every=False, config=CLS, **options):
    """Check with the number of classes that is right, unless an option says otherwise."""
    settings = {'model.head.num_classes': 4, 'model.data_preprocessor.num_classes': 4}
    settings = settings if config == CLS else {}
    for split in ('train', 'val', 'test'):
        settings[f'{split}_dataloader.dataset.data_root'] = str(root)
    if config != CLS:
        settings = {'train_dataloader.dataset.data_root': str(root)}
    settings |= {key.replace('__', '.'): value for key, value in options.items()}
    return check_data(read_config(config, settings), every)


def test_sound_data_has_no_problem_and_is_counted(root):
    findings = check(root)
    assert not findings.problems and not findings.warnings
    train, val = findings.facts  # test is val, and looked at once
    assert '12 images of 4 classes (ant 3, bee 3, cat 3, dog 3), 8 x 6 px' in train
    assert '8 images of 4 classes (ant 2, bee 2, cat 2, dog 2)' in val


def test_class_folder_that_validation_lacks(root):
    """Labels of mmpretrain are places in the sorted folders: 'cat' would be 1 instead of 2."""
    shutil.rmtree(root / 'val' / 'bee')
    (problem,) = check(root).problems
    assert f"'{root}/val' lacks 'bee'" in problem and "'cat', 'dog' would have another" in problem
    (root / 'val' / 'bee').mkdir()
    assert not check(root).problems  # what the sentence says to do
    shutil.rmtree(root / 'val' / 'bee')
    shutil.rmtree(root / 'train' / 'bee')
    shutil.rmtree(root / 'val' / 'dog')  # the last one: the others keep their labels
    findings = check(root, model__head__num_classes=3, model__data_preprocessor__num_classes=3)
    assert not findings.problems and "lacks 'dog'" in findings.warnings[0]


def test_class_folder_that_only_validation_has(root):
    (root / 'val' / '.ipynb_checkpoints').mkdir()
    (problem,) = check(root).problems
    assert "has '.ipynb_checkpoints', which" in problem


@pytest.mark.parametrize('outputs', [3, 1000])
def test_head_of_another_number_of_classes(root, outputs):
    (problem,) = check(root, model__head__num_classes=outputs).problems
    assert 'has 4 classes' in problem and f'model.head.num_classes={outputs}' in problem
    assert '--cfg-options model.head.num_classes=4' in problem


def test_classes_are_stated_once(root):
    """``classes`` at the top is what data sets and heads have."""
    findings = check(root, classes=NAMES, model__head__num_classes=8)
    assert not findings.problems
    (problem,) = check(root, classes=NAMES[::-1]).problems[:1]
    assert 'name the classes in the order of the folders' in problem
    (problem,) = check(root, classes=NAMES[:3]).problems[:1]
    assert '4 class folders' in problem and '3 classes' in problem
    with pytest.raises(ValueError, match=r"put a comma .* classes=\('ship',\)"):
        check(root, classes='ship')


def test_names_of_the_config(root):
    where = 'train_dataloader__dataset__metainfo__classes'
    assert "('ship',)" in check(root, **{where: 'ship'}).problems[0]
    findings = check(root, **{where: ['ant', 'bee', 'kat', 'dog']})
    assert not findings.problems and "'cat' 'kat'" in findings.warnings[0]
    assert not check(root, **{where: ['Ameise', 'Biene', 'Katze', 'Hund']}).warnings
    listed = root / 'names.txt'  # mmengine takes the path of a list
    listed.write_text('\n'.join(NAMES))
    assert not check(root, **{where: str(listed)}).problems


def test_lists_of_labels(root):
    where = 'train_dataloader__dataset__'

    def listed(*labels, names=NAMES):
        lines = [f'{name}/0.png {label}' for name, label in zip(NAMES, labels, strict=True)]
        (root / 'train.txt').write_text('\n'.join(lines) + '\n')
        options = {f'{where}ann_file': str(root / 'train.txt')}
        options |= {f'{where}metainfo.classes': names} if names else {}
        return check(root, **options)

    assert not listed(0, 1, 2, 3).problems
    (problem,) = listed(1, 2, 3, 4).problems  # labels from 1 on
    assert 'dog/0.png' in problem and 'label 4' in problem and '0 to 3' in problem
    (problem,) = listed(1, 2, 3, 4, names=None).problems
    assert 'has 5 classes, but model.head.num_classes=4' in problem
    (problem,) = listed(0, 1, 'two', 3).problems
    assert f"line 3 of '{root}/train.txt'" in problem
    (warning,) = listed(0, 0, 2, 3).warnings
    assert "no image of 'bee'" in warning


def test_broken_images(root):
    (root / 'train' / 'cat' / '1.png').write_bytes(b'')
    findings = check(root)  # 1 of 12 is more than the 5 % of configs/_base_/default_runtime.py
    (problem,) = findings.problems
    assert '1 of 12 images of train_dataloader.dataset' in problem
    assert f'{root}/train/cat/1.png (the file is empty)' in problem
    hook = 'default_hooks__unreadable_images__max_fraction'
    findings = check(root, **{hook: 0.1})
    assert not findings.problems and '1.png' in findings.warnings[0]
    path = root / 'val' / 'dog' / '0.png'
    path.write_bytes(path.read_bytes()[:-40])  # its header is sound
    assert not check(root, **{hook: 0.1}).problems
    (problem,) = check(root, every=True, **{hook: 0.1}).problems
    assert 'val_dataloader.dataset' in problem and 'dog/0.png' in problem


def test_same_images_in_training_and_validation(root):
    findings = check(root, val_dataloader__dataset__data_prefix='train')
    (warning,) = findings.warnings
    assert '12 images of val_dataloader.dataset are trained on too' in warning
    shutil.rmtree(root / 'val')
    (root / 'val').symlink_to(root / 'train')  # by whatever name
    assert any('12 images' in text for text in check(root).warnings)


def test_wrapped_and_unknown_data_sets(root):
    """mmengine's wrappers are looked through, folds of one data set have nothing in common."""
    part = dict(type='CustomDataset', data_root=str(root), data_prefix='train', pipeline=[])
    deep = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[part]))
    fold = dict(type='KFoldDataset', num_splits=2, dataset=part)
    cfg = read_config(CLS, {'model.head.num_classes': 4})
    cfg.train_dataloader.dataset = deep
    cfg.val_dataloader = cfg.test_dataloader = None
    (fact,) = check_data(cfg).facts
    assert fact.startswith('train_dataloader.dataset.dataset.datasets.0: 12 images of 4 classes')
    cfg.train_dataloader.dataset = fold
    cfg.val_dataloader = dict(cfg.train_dataloader, dataset=dict(fold, test_mode=True))
    findings = check_data(cfg)
    assert not findings.warnings and not findings.problems
    cfg.val_dataloader = dict(dataset=dict(part, backend_args=dict(backend='petrel')))
    assert 'not on this machine' in check_data(cfg).facts[-1]
    cfg.val_dataloader = dict(dataset=dict(type='torch.utils.data.TensorDataset'))
    assert 'no data set of OpenMMLab' in check_data(cfg).facts[-1]


def test_what_cannot_be_made(root):
    where = 'train_dataloader__dataset__'
    (problem,) = check(root, **{f'{where}data_root': 'nowhere'}).problems
    assert problem == "there is no 'nowhere': set train_dataloader.dataset.data_root"
    (problem,) = check(root, **{f'{where}data_prefix': 'training'}).problems
    assert problem.endswith("/training': set train_dataloader.dataset.data_prefix")
    (problem,) = check(root, **{f'{where}foo': 1}).problems
    assert 'train_dataloader.dataset cannot be used' in problem and "'foo'" in problem
    assert "type='Foo'" in check(root, **{f'{where}type': 'Foo'}).problems[0]


def test_accuracies_of_training(root):
    head = dict(model__head__cal_acc=True, model__head__topk=(1, 5))
    assert 'topk=(1, 5) needs 5 classes' in check(root, **head).problems[0]


def test_batch_normalisation_of_one_image(root):
    """The neck of linear probing, whose last batch has 12 % 11 = 1 image."""
    cfg = read_config(LINEAR)
    part = dict(type='CustomDataset', data_root=str(root), data_prefix='train', pipeline=[])
    cfg.train_dataloader.update(batch_size=11, drop_last=False)
    cfg.train_dataloader.dataset = part
    cfg.val_dataloader = cfg.test_dataloader = None
    cfg.model.head.num_classes = 4
    (problem,) = check_data(cfg).problems
    assert '12 images in batches of 11' in problem and 'drop_last=True' in problem
    cfg.train_dataloader.drop_last = True
    assert not check_data(cfg).problems
    cfg.train_dataloader.batch_size = 1
    assert 'train_dataloader.batch_size=1' in check_data(cfg).problems[0]


def test_pretraining(root):
    prefix = dict(train_dataloader__dataset__data_prefix=dict(img_path='train'))
    draw(root / 'train' / 'cat' / 'large.png', (40, 30))
    (fact,) = check(root, config=PRETRAIN, **prefix).facts
    assert fact == 'train_dataloader.dataset: 13 images, 8 x 6 to 40 x 30 px'
    (problem,) = check('nowhere', config=PRETRAIN, **prefix).problems
    assert "there is no folder 'nowhere/train'" in problem
    (root / 'train' / 'cat' / '0.png').write_text('no image')
    assert 'cat/0.png' in check(root, config=PRETRAIN, **prefix).problems[0]


def test_samples_do_not_follow_the_order_of_classes():
    """Every second of images whose classes alternate would be half of the classes."""
    chosen = sample(list(range(1000)), every=False, count=100)
    assert len(set(chosen)) == 100 and chosen == sample(list(range(1000)), False, 100)
    assert {number % 8 for number in chosen} == set(range(8))
    assert sample([1, 2], every=False) == [1, 2] and len(sample([1] * 1000, every=True)) == 1000
