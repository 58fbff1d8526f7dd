"""The demo's smoke version goes the whole way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_smoke(tmp_path):
    settings = dict(SMOKE='1', SEED='3', DATA=f'{tmp_path}/mini', WORK_DIR=f'{tmp_path}/demo')
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', 'tools/demo.sh'],
        cwd=ROOT,
        env=dict(os.environ, PATH=path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', **settings),
        capture_output=True,
        text=True,
        timeout=900,
    )
    out = done.stdout
    assert done.returncode == 0, out[-2000:] + done.stderr[-2000:]
    steps = [out.index(f'== {n}/3') for n in (1, 2, 3)]
    assert steps == sorted(steps)
    # What happens is seen while it does: probes, the stop, the resumption.
    said = [out.index(text) for text in ('probe after epoch 0: ', 'stopped by', 'resumed epoch')]
    assert said == sorted(said) and steps[1] < said[0] and said[-1] < steps[2]
    assert 'probe after epoch 4: ' in out
    # Its end: what pretraining is worth, and one report, which nobody rewrites any more.
    assert 'Classification of mini scenes, top-1: pretrained ' in out[steps[2] :]
    demo = tmp_path / 'demo'
    report = (demo / 'report.html').read_text()
    for text in ('complete, 4 epochs', 'Measured on mini scenes', 'Frozen features', 'Predictions'):
        assert text in report
    assert 'http-equiv="refresh"' not in report and 'Published' not in report
    assert len(list(demo.rglob('test_*.json'))) == 2
    assert {path.name for path in demo.glob('*/*_seed3')} == {'cls_seed3'}
