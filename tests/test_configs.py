"""Every config parses, builds at full size, and names nothing that nobody reads."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.registry import LOOPS, MODELS, RUNNERS, TRANSFORMS

CONFIGS = Path(__file__).parents[1] / 'configs'
PRETRAIN = sorted((CONFIGS / 'pretrain').glob('*.py'))

# What a runner reads.
KEYS = {
    'model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'auto_scale_lr', 'param_scheduler',
    'default_scope', 'default_hooks', 'custom_hooks', 'env_cfg', 'visualizer', 'vis_backends',
    'log_processor', 'log_level', 'load_from', 'resume', 'randomness', 'runner_type', 'strategy',
}  # fmt: skip


@pytest.fixture(autouse=True)
def scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmpretrain')
    yield
    if before is not None:
        DefaultScope.get_instance(before.instance_name)


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_pretraining_config_builds(path):
    cfg = Config.fromfile(path)
    assert set(cfg.keys()) <= KEYS, set(cfg.keys()) - KEYS
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    adversary = 'adversary' in cfg.model
    assert (model.adversary is not None) == adversary == path.stem.startswith('adpe')
    optimizer = dict(optimizer=dict(cfg.optim_wrapper.optimizer))
    constructor = LayerDecayOptimWrapperConstructor(optimizer, cfg.optim_wrapper.paramwise_cfg)
    groups = constructor.param_groups(model, cfg.optim_wrapper.optimizer)
    assert len(groups) == 2 + adversary
    assert LOOPS.get(cfg.train_cfg.type) and RUNNERS.get(cfg.runner_type)
    for transform in cfg.train_dataloader.dataset.pipeline:
        TRANSFORMS.build(transform)


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_schedule_arithmetic(path):
    """Warm-up and cosine meet, and end with the training; the batch is what lr is meant for."""
    cfg = Config.fromfile(path)
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, cosine.begin)
    assert cosine.end == cfg.train_cfg.max_epochs == cosine.begin + cosine.T_max
    if 'mini' in path.stem:
        return
    epochs = int(path.stem.removesuffix('_fsdp').rpartition('_')[2].removesuffix('e'))
    assert cfg.train_cfg.max_epochs == epochs
    assert warm_up.end == {400: 20, 1600: 40}[epochs]
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    gpus = 32 if 'fsdp' in path.stem else 8
    batch = gpus * cfg.train_dataloader.batch_size * accumulated
    assert batch == cfg.auto_scale_lr.base_batch_size
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_docstring_says_what_it_is_how_it_runs_and_what_to_expect(path):
    text = path.read_text()
    doc = text.split('"""')[1]
    assert f'configs/pretrain/{path.name}' in doc
    assert 'not run' in doc or 'Measured' in doc


@pytest.mark.parametrize(
    'name, millions',
    # Encoder, decoder and mask token of MAE at patch 16 and crop 112; iRPE adds 50 x 64 a block.
    [('maeplus_vit-b_ape_400e', 111.7), ('adpe_vit-b_1600e', 111.7)],
)
def test_published_network_sizes(name, millions):
    cfg = Config.fromfile(CONFIGS / 'pretrain' / f'{name}.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
