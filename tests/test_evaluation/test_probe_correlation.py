"""Rank correlation against scipy's, and the table from files of results."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from adpe_mm.errors import UserError
from adpe_mm.evaluation.probes.correlation import (
    fine_tuned,
    rank_correlation,
    write_correlation,
)
from adpe_mm.evaluation.results import FORMAT


@pytest.mark.parametrize('levels', [1000, 4])  # of few levels many are equal
def test_rank_correlation_is_spearmans(levels):
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, levels, (2, 7))
        expected = spearmanr(a, b).statistic
        assert rank_correlation(a, b) == pytest.approx(expected, nan_ok=True)


def test_equal_values_tell_nothing():
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def write_result(folder: Path, top1: float, pretrained: str | None, seed: int):
    folder.mkdir(parents=True)
    result = dict(
        format=FORMAT, tta=False, date=f'2026-01-0{seed + 1}', dataset='mini scenes',
        checkpoint=str(folder / 'epoch_1.pth'), checkpoint_sha256=f'{folder}',
        pretraining=dict(checkpoint=pretrained), metrics={'accuracy/top1': top1, 'other': 5},
    )  # fmt: skip
    (folder / 'test_epoch_1.json').write_text(json.dumps(result))


def test_the_table_of_a_benchmark(tmp_path):
    for name, values in dict(scratch=(20, 22), a=(40, 44), b=(30, 30)).items():
        for seed, top1 in enumerate(values):
            pretrained = None if name == 'scratch' else f'{name}.pth'
            write_result(tmp_path / name / f'cls_seed{seed}', top1, pretrained, seed)
    (tmp_path / 'logs').mkdir()
    networks = fine_tuned(tmp_path)
    assert networks['a']['metrics'] == {'top-1': 42} and networks['a']['checkpoint'] == 'a.pth'
    assert networks['scratch']['checkpoint'] is None
    assert networks['scratch']['tested'].startswith(f'{tmp_path}/scratch/cls_seed')
    for name, knn, rank in [('scratch', 10, 9), ('a', 12, 3), ('b', 11, 5)]:
        networks[name]['probes'] = dict(knn=knn, effective_rank=rank, largest_norm=1.0)
    text = write_correlation(networks, tmp_path)
    assert '| k-NN | +1.00 |' in text and '| effective rank | -1.00 |' in text
    assert '| a | 12.0 |  |  | 3.0 | 1.0 | 42.0 |' in text
    written = json.loads((tmp_path / 'probe_correlation.json').read_text())
    assert written['correlation']['knn'] == {'top-1': pytest.approx(1)}


def test_two_networks_are_too_few(tmp_path):
    for name in 'ab':
        write_result(tmp_path / name / 'cls_seed0', 1.0, f'{name}.pth', 0)
    with pytest.raises(UserError, match='has results of 2 networks'):
        fine_tuned(tmp_path)
