"""mmpretrain can be imported beside transformers 5, whose names its multimodal networks lack."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import adpe_mm
from mmpretrain.utils import dependency
print(dependency.WITH_MULTIMODAL, type(dependency.__spec__.loader).__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize('version, loader', [('5.0.0', '_Loader'), ('4.20.0', 'SourceFileLoader')])
def test_multimodal_networks_are_left_out(version, loader, tmp_path):
    """Beside transformers 5; else it is mmpretrain that decides (4.20 is too old for it)."""
    for name, number in [('transformers', version), ('pycocotools', '2.0.8')]:
        folder = tmp_path / f'{name}-{number}.dist-info'
        folder.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n'
        (folder / 'METADATA').write_text(text)
    done = subprocess.run(
        [sys.executable, '-c', CODE, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ['False', loader], done.stderr
