"""A thousand iterations take no more memory than a few hundred, in no process of a run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adpe_mm.datasets.mini_scenes import Options, make_mini

ROOT = Path(__file__).parents[2]
PAGE = os.sysconf('SC_PAGE_SIZE')
SETTLED = 300  # iterations after which all that is kept for good is there
BOUND = 8.0  # MB per 1000 iterations; a crop that is forgotten in each would be 28
LENGTH = {'pretrain': 'train_cfg.max_epochs=50', 'seg': 'train_cfg.max_iters=1000'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'mini'
    make_mini(folder, Options(train=40, val=8, size=64, others=0, variation=30), 1)
    return folder


def resident(process: int) -> float:
    """MB in memory."""
    return int(Path(f'/proc/{process}/statm').read_text().split()[1]) * PAGE / 2**20


def children(process: int) -> list[int]:
    tasks = Path(f'/proc/{process}/task').glob('*/children')
    return sorted(int(child) for task in tasks for child in task.read_text().split())


def slope(sizes: list[tuple[int, float]]) -> float:
    """MB per 1000 iterations, by least squares."""
    iterations, megabytes = np.array([pair for pair in sizes if pair[0] > SETTLED]).T
    assert len(iterations) > 20
    return 1000 * np.polyfit(iterations, megabytes, 1)[0]


def test_a_leak_would_be_seen():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 100)
    steady = [(10 * i, 400 + noise[i]) for i in range(100)]
    assert abs(slope(steady)) < BOUND / 2
    crop = 3 * 48 * 48 * 4 / 2**20
    assert slope([(i, size + i * crop) for i, size in steady]) > 2 * BOUND


@pytest.mark.slow
@pytest.mark.parametrize('task', LENGTH)
def test_memory_is_flat(tmp_path, data, task):
    before = set(Path('/dev/shm').iterdir())
    job = subprocess.Popen(
        [
            sys.executable, 'tools/train.py', f'configs/benchmarks/faults/{task}.py',
            '--no-validate', '--work-dir', tmp_path, '--cfg-options', LENGTH[task],
            'train_dataloader.batch_size=2', 'train_dataloader.num_workers=2',
            'default_hooks.logger.interval=10', 'default_hooks.checkpoint.interval=1000',
            'default_hooks.reconstruction=None',
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', MINI_DATA=str(data)),
    )  # fmt: skip
    sizes: dict[int, list[tuple[int, float]]] = {}  # of the main process, 0, and its workers
    seen = {job.pid}
    iteration, output = 0, ''
    for line in job.stdout:
        output += line
        if re.search(r'(Epoch|Iter)\(train\) +\[', line):
            iteration += 10
            workers = children(job.pid)
            assert len(workers) == 2
            seen |= {*workers}
            for number, process in enumerate((job.pid, *workers)):
                sizes.setdefault(number, []).append((iteration, resident(process)))
    assert job.wait() == 0, output
    assert iteration == 1000
    slopes = [slope(of_one) for of_one in sizes.values()]
    assert max(slopes) < BOUND, slopes
    left = {path.name for path in set(Path('/dev/shm').iterdir()) - before}
    assert not [name for name in left if re.match(rf'torch_({"|".join(map(str, seen))})_', name)]
