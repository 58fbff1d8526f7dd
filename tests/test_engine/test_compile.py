"""torch.compile changes nothing but the speed."""

import pytest
import torch

from tests.helpers import tiny_config
from tests.test_engine.toy import NOISY, draw, make_runner

CONFIGS = {
    'ape-coordinate': tiny_config('ape', 'coordinate'),
    'rpe-coordinate': tiny_config('rpe', 'coordinate'),
    'rpe-embedding': tiny_config('rpe', 'embedding'),
}


def train(work_dir, data, config, **options):
    runner = make_runner(work_dir, data, model=config, options=options)
    runner.train()
    return runner


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_same_run_when_compiled(tmp_path, name):
    data = draw(tmp_path / 'data')
    plain = train(tmp_path / 'plain', data, CONFIGS[name])
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters['stats']['unique_graphs']
    options = dict(compile=True, log_level='INFO')
    compiled = train(tmp_path / 'compiled', data, CONFIGS[name], **options)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > graphs
    assert 'for compiling' in next((tmp_path / 'compiled').rglob('*.log')).read_text()
    losses = [list(run.record.losses.values()) for run in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    weights = [run.model.state_dict() for run in (plain, compiled)]
    assert weights[0].keys() == weights[1].keys()  # a checkpoint of either serves both


@pytest.mark.parametrize('compile', [None, False])
def test_not_compiled(tmp_path, compile):
    runner = train(tmp_path / 'run', draw(tmp_path / 'data'), NOISY, compile=compile)
    assert runner.iter == 10


def test_a_network_without_blocks(tmp_path):
    with pytest.raises(ValueError, match='compile=True'):
        train(tmp_path / 'run', draw(tmp_path / 'data'), NOISY, compile=True)
