"""What is damaged is noticed, whatever is damaged."""

import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from adpe_mm.checkpoints import check_whole, read_checkpoint, write_checkpoint
from adpe_mm.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def checkpoint():
    """As a run saves it: weights, the optimiser's state, and numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(24, 24) for _ in range(8)), nn.Linear(24, 9))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 24)).sum().backward()
    optimizer.step()
    return dict(
        state_dict=model.state_dict(), optimizer=optimizer.state_dict(), meta=dict(epoch=1, iter=7)
    )


@pytest.fixture(scope='module')
def content(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp('whole') / 'a.pth'
    write_checkpoint(checkpoint, path)
    assert check_whole(path)
    return path.read_bytes()


def refused(path: Path) -> str:
    """The one sentence by which a file is refused."""
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    sentence = str(error.value)
    assert str(path) in sentence and '\n' not in sentence
    assert not re.search('weights_only=|trust|unsafe', sentence)
    return sentence


def test_a_hundred_flipped_bytes_are_noticed(content, tmp_path):
    """Anywhere: in weights, numbers, names, headers, padding and the table of contents."""
    draw, path = random.Random(0), tmp_path / 'flipped.pth'
    table = content.rindex(b'PK\6\6')
    for place in [*draw.sample(range(len(content)), 100), *range(table - 60, len(content))]:
        flipped = bytearray(content)
        flipped[place] ^= draw.randrange(1, 256)
        path.write_bytes(flipped)
        # The time of the file's last change may be too coarse to tell two writes apart.
        os.utime(path, ns=(place, place))
        assert 'damaged' in refused(path), place


def test_torch_itself_takes_it(content, tmp_path):
    """So the test above can fail: the byte is one of a weight."""
    path = tmp_path / 'flipped.pth'
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo('archive/data/2').header_offset + 200
    flipped = bytearray(content)
    flipped[place] ^= 1
    path.write_bytes(flipped)
    torch.load(path, weights_only=True)
    assert 'the checksum of archive/data/2 is wrong' in refused(path)


@pytest.mark.parametrize(
    'name, damage, reason',
    [
        ('empty', lambda whole: b'', 'is empty'),
        ('half', lambda whole: whole[: len(whole) // 2], 'damaged'),
        ('short', lambda whole: whole[:-1], 'damaged'),
        ('long', lambda whole: whole + b'\0', 'damaged'),
        ('twice', lambda whole: whole + whole, 'damaged'),
        ('zeros inside', lambda whole: whole[:9000] + bytes(4096) + whole[13096:], 'damaged'),
        ('zeros first', lambda whole: bytes(4096) + whole[4096:], 'damaged'),
        ('zeros', lambda whole: bytes(len(whole)), 'begins with 64 zeros'),
        ('text', lambda whole: b'version https://git-lfs\n', "begins with 'version https://git-lfs'"),
        ('noise', lambda whole: bytes(range(128, 256)) * 20, 'no checkpoint'),
        ('magic', lambda whole: b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.' + whole, 'damaged'),
    ],
)  # fmt: skip
def test_broken_files_are_said_to_be_broken(content, tmp_path, name, damage, reason):
    path = tmp_path / f'{name}.pth'
    path.write_bytes(damage(content))
    assert reason in refused(path)


def test_other_files_are_none(tmp_path):
    (tmp_path / 'run').mkdir()
    assert 'is a folder' in refused(tmp_path / 'run')
    (tmp_path / 'run' / 'epoch_3.pth').touch()
    assert 'epoch_3.pth' in refused(tmp_path / 'run')
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        check_whole(tmp_path / 'none.pth')
    with zipfile.ZipFile(tmp_path / 'archive.pth', 'w') as archive:
        archive.writestr('a.txt', 'no weights')
    assert 'no file of torch.save' in refused(tmp_path / 'archive.pth')
    torch.save(dict(model=dict(a=torch.zeros(1)), hook=print), tmp_path / 'code.pth')
    assert 'as it holds print too' in refused(tmp_path / 'code.pth')
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / 'script.pth')
    assert 'no file of torch.save' in refused(tmp_path / 'script.pth')


def test_files_without_checksums_are_read(checkpoint, tmp_path):
    options = dict(_use_new_zipfile_serialization=False)
    torch.save(checkpoint, tmp_path / 'former.pth', **options)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(checkpoint, tmp_path / 'fast.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / 'packed.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        torch.save(checkpoint, tmp_path / 'a.pth')
        with zipfile.ZipFile(tmp_path / 'a.pth') as stored:
            for name in stored.namelist():
                archive.writestr(name, stored.read(name))
    for name, has_checksums in (('former', False), ('fast', False), ('packed', True)):
        assert check_whole(tmp_path / f'{name}.pth') == has_checksums
        read = read_checkpoint(tmp_path / f'{name}.pth')['state_dict']
        assert all(torch.equal(read[key], value) for key, value in checkpoint['state_dict'].items())


def test_command(content, checkpoint, tmp_path):
    (tmp_path / 'good.pth').write_bytes(content)
    (tmp_path / 'bad.pth').write_bytes(content[:9000] + b'?' + content[9001:])
    write_checkpoint(checkpoint, tmp_path / 'good.safetensors')
    (tmp_path / 'bad.safetensors').write_bytes((tmp_path / 'good.safetensors').read_bytes()[:-9])

    def verify(*names):
        return subprocess.run(
            [sys.executable, ROOT / 'tools/analysis_tools/verify_checkpoint.py', *names],
            cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=ROOT),
        )  # fmt: skip

    done = verify('good.pth', 'good.safetensors')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == 'good.pth: whole'
    assert 'no checksums' in done.stdout.splitlines()[1]
    done = verify('bad.pth', 'bad.safetensors', 'good.pth')
    assert done.returncode == 1 and done.stdout.count('damaged') == 2 and not done.stderr
    assert done.stdout.splitlines()[-1] == 'good.pth: whole'
