"""What is in a folder and not used is counted, and said in one line."""

import re
import time

import pytest
from PIL import Image

from adpe_mm.datasets import Finder, Images, extensions, find_images, finding
from adpe_mm.datasets.tiles import tile_photos


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(finding, 'print_log', lambda text, **_: texts.append(text))
    return texts


@pytest.fixture
def folder(tmp_path):
    """Four images, one of them empty and two of one name, among other things."""
    for name in ('a.jpg', 'a.PNG', 'deep/a.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (40, 30), (9, 99, 199)).save(tmp_path / name)
    for name in ('deep/empty.png', '.hidden.jpg', 'b.heic', 'deep/c.HEIC', 'notes.txt', 'README'):
        (tmp_path / name).touch()
    for i in range(5):
        (tmp_path / f'{i}.npy').touch()
    (tmp_path / '.git').mkdir()
    (tmp_path / '.git' / 'x.jpg').touch()
    return tmp_path


UNUSED = (
    r'not used are 5 \.npy \(.*0\.npy, .*1\.npy, .*2\.npy, \.\.\.\), '
    r'2 hidden \(.*\.git, .*\.hidden\.jpg\), 2 \.heic \(.*b\.heic, .*c\.HEIC\), '
    r'1 without an ending \(.*README\), 1 \.txt \(.*notes\.txt\); '
    r'1 images have the name of another but for its ending \(.*a\.jpg\), and both are used; '
    r'1 files are empty \(.*empty\.png\)'
)


def test_every_reader_of_folders_says_it_once_in_a_line(folder, said):
    where = re.escape(str(folder))
    assert len(Images(data_root=str(folder))) == 4
    assert len(find_images([folder, folder / 'a.jpg'])) == 5
    tile_photos(folder, folder.with_name('tiles'), min_std=0)
    assert len(said) == 3
    for text in said:
        assert re.fullmatch(rf"4 images in '{where}'; {UNUSED}", text) and '\n' not in text


def test_nothing_is_said_of_a_folder_of_images(tmp_path, said):
    Image.new('RGB', (40, 30)).save(tmp_path / 'a.jpg')
    assert len(Images(data_root=str(tmp_path))) == 1 and said == []


def test_arrays_are_images_of_bands(folder):
    finder = Finder(extensions(6))
    assert len(finder.images(folder)) == 9 and 'npy' not in str(finder).split('files are empty')[0]


def test_links_are_followed_and_a_circle_ends(tmp_path, said):
    (tmp_path / 'real').mkdir()
    Image.new('RGB', (40, 30)).save(tmp_path / 'real' / 'a.jpg')
    (tmp_path / 'real' / 'up').symlink_to(tmp_path)
    (tmp_path / 'again').symlink_to(tmp_path / 'real')
    assert len(find_images([tmp_path])) == 1


@pytest.mark.slow
def test_a_hundred_thousand_files_take_seconds(tmp_path):
    for i in range(100):
        (tmp_path / f'{i}').mkdir()
        for k in range(1000):
            (tmp_path / f'{i}' / f'{k}.jpg').touch()
    start = time.perf_counter()
    assert len(Finder().images(tmp_path)) == 100_000
    assert time.perf_counter() - start < 10
