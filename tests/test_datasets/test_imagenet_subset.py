import pytest
from mmpretrain.datasets import ImageNet
from PIL import Image

from adpe_mm.datasets.imagenet_subset import ImageNetSubset

CLASSES = ('n01440764', 'n01443537', 'n01484850')


@pytest.fixture
def root(tmp_path):
    """Three classes of four images, and a list of some of them."""
    for wnid in CLASSES:
        for i in range(4):
            path = tmp_path / 'train' / wnid / f'{wnid}_{i}.JPEG'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (8, 8)).save(path)
    return tmp_path


def subset(root, text):
    (root / 'list.txt').write_text(text)
    return ImageNetSubset(
        subset='list.txt',
        data_root=str(root),
        split='train',
        metainfo=dict(classes=CLASSES),
    )


def test_it_has_the_images_of_the_list_with_the_labels_of_all(root):
    """No image of the second class is listed: the third keeps its label."""
    data = subset(root, 'n01484850_3.JPEG\n\nn01440764_0.JPEG\r\nn01484850_1.JPEG\n')
    found = [(data[i]['img_path'], data[i]['gt_label']) for i in range(len(data))]
    whole = ImageNet(data_root=str(root), split='train', metainfo=dict(classes=CLASSES))
    labels = {whole[i]['img_path']: whole[i]['gt_label'] for i in range(len(whole))}
    assert len(labels) == 12
    names = ['n01440764_0', 'n01484850_1', 'n01484850_3']
    assert [path.split('/')[-1] for path, _ in found] == [f'{name}.JPEG' for name in names]
    assert [label for _, label in found] == [0, 2, 2]
    assert all(labels[path] == label for path, label in found)


@pytest.mark.parametrize(
    'text, error, message',
    [
        ('n01440764_0.JPEG\nn01440764_9.JPEG\nn01440764_8.JPEG\n', FileNotFoundError,
         r'2 of the 3 images of .* are not in .*train.*, the first is n01440764_8.JPEG'),
        ('n01440764_0.JPEG\nn01440764_1.JPEG\nn01440764_0.JPEG\n', ValueError,
         'names 1 images more than once, the first is n01440764_0.JPEG'),
        ('\n', ValueError, 'names no image'),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(root, text, error, message):
    with pytest.raises(error, match=message) as caught:
        subset(root, text)
    assert '\n' not in str(caught.value)


def test_a_list_that_is_not_there_is_named(root):
    with pytest.raises(FileNotFoundError, match="there is no list of images '.*1percent.txt'"):
        ImageNetSubset(subset='1percent.txt', data_root=str(root), split='train')


def test_an_image_in_two_folders_is_refused(root):
    Image.new('RGB', (8, 8)).save(root / 'train' / CLASSES[1] / 'n01440764_0.JPEG')
    with pytest.raises(ValueError, match='has 2 images with the 1 names of'):
        subset(root, 'n01440764_0.JPEG')
