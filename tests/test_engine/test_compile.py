"""torch.compile changes nothing but the speed, and compiles few graphs for many blocks."""

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from adpe_mm.engine import CompileHook
from adpe_mm.engine.hooks.compile import compile_blocks
from adpe_mm.models import AdPEViT
from tests.helpers import tiny_config
from tests.test_engine.toy import NOISY, draw, make_runner

CONFIGS = {
    'ape-coordinate': tiny_config('ape', 'coordinate'),
    'rpe-coordinate': tiny_config('rpe', 'coordinate'),
    'rpe-embedding': tiny_config('rpe', 'embedding'),
}

ARCH = dict(embed_dims=24, num_layers=12, num_heads=3, feedforward_channels=48)
TASKS = {
    'cls': dict(out_type='avg_featmap'),
    'seg': dict(out_type='featmap', out_indices=(3, 5, 7, 11)),
    'det': dict(out_type='featmap', with_cls_token=False, final_norm=False, window_size=3),
}
RPE = dict(position='rpe', rpe_lookup='interpolate')


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


@pytest.mark.slow
@pytest.mark.parametrize('position', [RPE, dict()], ids=['rpe', 'ape'])
@pytest.mark.parametrize('task, graphs', [('cls', 2), ('seg', 2), ('det', 3)])
def test_equal_blocks_share_a_graph(task, graphs, position):
    """Of the first block, whose rate is 0, and of the others; of the global ones in detection."""
    torch._dynamo.reset()
    counters.clear()
    settings = dict(TASKS[task], **position)
    if task == 'det' and not position:
        settings['decomposed_rpe'] = True
    vit = AdPEViT(ARCH, img_size=40, patch_size=8, drop_path_rate=0.1, **settings).train()
    # Even where no number may become a symbol, as it else does once another one was seen.
    assert compile_blocks(vit, backend='aot_eager', dynamic=False) == 12
    for _ in range(2):
        sum(out.sum() for out in vit(torch.randn(2, 3, 40, 40))).backward()
    assert counters['stats']['unique_graphs'] == graphs
    with torch.no_grad():
        vit.eval()(torch.randn(2, 3, 40, 40))  # no drop path, so the first block is as the others
    assert counters['stats']['unique_graphs'] == 2 * graphs - 1


def test_ddp_cuts_no_block(tmp_path):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        vit = AdPEViT(dict(ARCH, num_layers=3), img_size=40, patch_size=8)
        ddp = DistributedDataParallel(vit, bucket_cap_mb=1e-3)  # a block is 20 times as large
        with torch._dynamo.config.patch(optimize_ddp=True):
            runner = SimpleNamespace(model=ddp, logger=logging.getLogger())
            CompileHook(backend=backend).before_train(runner)
            ddp(torch.randn(2, 3, 40, 40))
        assert len(graphs) == 1
    finally:
        dist.destroy_process_group()
