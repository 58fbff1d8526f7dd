"""The demo's smoke version goes the whole way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_smoke(tmp_path):
    settings = dict(SMOKE='1', DATA=str(tmp_path / 'mini'), WORK_DIR=str(tmp_path / 'demo'))
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', 'tools/demo.sh'],
        cwd=ROOT,
        env=dict(os.environ, PATH=path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', **settings),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert 'stopped by' in done.stdout and 'resumed' in done.stdout
    report = (tmp_path / 'demo' / 'report.html').read_text()
    for text in ('Measured on mini scenes', 'Reconstructions', 'Predictions', 'Results by class'):
        assert text in report
    results = list((tmp_path / 'demo').rglob('test_*.json'))
    assert len(results) == 3
