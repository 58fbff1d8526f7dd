"""lr of every group of parameters through whole trainings, against the source's formula."""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from torch import nn

from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.engine.schedules import in_iterations
from adpe_mm.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
ALL = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
ITERATIONS = 1000


class Pretrained(nn.Module):
    """What the groups are made of: the backbone, and a head that learns as its last layer."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(1, 1)


def groups_of(cfg: Config) -> tuple[nn.Module, list[dict]]:
    """The network, or its backbone and a head, and the groups that its optimiser has."""
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        if 'adversary' in cfg.model:
            model = MODELS.build(cfg.model)
        else:
            model = Pretrained(MODELS.build(cfg.model.backbone))
    settings = cfg.optim_wrapper.optimizer
    constructor = LayerDecayOptimWrapperConstructor(
        dict(optimizer=settings), cfg.optim_wrapper.get('paramwise_cfg')
    )
    return model, constructor.param_groups(model, settings)


def rates(cfg: Config, groups: list[dict]) -> list[list[float]]:
    """lr of each group in each iteration of a training of some length."""
    optimizer = torch.optim.AdamW([dict(group, params=[torch.zeros(1)]) for group in groups], lr=1)
    schedulers = [
        PARAM_SCHEDULERS.build(
            {'end': ITERATIONS}
            | in_iterations(dict(schedule), ITERATIONS)
            | dict(optimizer=optimizer)
        )
        for schedule in cfg.param_scheduler
    ]
    found = []
    for _ in range(ITERATIONS):
        found.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return list(zip(*found, strict=True))


@pytest.mark.parametrize('path', ALL, ids=lambda path: '/'.join(path.parts[-2:]))
def test_no_group_learns_faster_after_its_warm_up(path):
    """Neither when its floor is above it, nor where a decay begins anew."""
    cfg = Config.fromfile(path)
    _, groups = groups_of(cfg)
    for group, lr in zip(groups, rates(cfg, groups), strict=True):
        summit = lr.index(max(lr))
        assert summit <= 0.51 * ITERATIONS  # Fashion-MNIST warms up for one epoch of two
        assert max(lr) == pytest.approx(group['lr'])
        rises = [b / a - 1 for a, b in zip(lr[summit:], lr[summit + 1 :], strict=False) if a]
        assert max(rises) < 1e-9, group['lr']
        assert lr[-1] < 0.05 * group['lr']


def mae_lr(epoch: float, blr: float, batch: int, epochs: int, warmup_epochs: float = 5) -> float:
    """MAE's `util/lr_sched.py` for a group of scale 1, with the defaults of `main_finetune.py`."""
    lr, min_lr = blr * batch / 256, 1e-6
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    angle = math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(angle))


def mae_scale(name: str, layers: int, decay: float) -> float:
    """MAE's `util/lr_decay.py`: the stem is 0, blocks are counted from 1, all else comes after."""
    if name.startswith('backbone.layers.'):
        depth = int(re.findall(r'\d+', name)[0]) + 1
    elif re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name):
        depth = 0
    else:
        depth = layers + 1
    return decay ** (layers + 1 - depth)


# MAE's FINETUNE.md (blr, epochs, layer decay, drop path), AdPE's README (batch); iBOT for S;
# Semi-ViT's FINETUNE.md for parts of ImageNet.
RECIPES = {
    'adpe-vit-b_100e_in1k': (5e-4, 100, 0.65, 0.1, 4096),
    'adpe-vit-b_100e_in1k_ema': (5e-4, 100, 0.65, 0.1, 4096),
    'adpe-vit-b-ape_100e_in1k': (5e-4, 100, 0.65, 0.1, 1024),
    'adpe-vit-b_100e_in1k-384px': (5e-4, 100, 0.65, 0.1, 1024),
    'adpe-vit-b-ape_100e_in1k-384px': (5e-4, 100, 0.65, 0.1, 1024),
    'adpe-vit-l_50e_in1k': (1e-3, 50, 0.75, 0.2, 4096),
    'adpe-vit-l-ape_50e_in1k': (1e-3, 50, 0.75, 0.2, 1024),
    'adpe-vit-h_50e_in1k': (1e-3, 50, 0.75, 0.3, 4096),
    'adpe-vit-h-ape_50e_in1k': (1e-3, 50, 0.75, 0.3, 1024),
    'adpe-vit-h_50e_in1k-448px': (1e-3, 50, 0.75, 0.3, 1024),
    'adpe-vit-h-ape_50e_in1k-448px': (1e-3, 50, 0.75, 0.3, 1024),
    'adpe-vit-s_200e_in1k': (1e-3, 200, 0.75, 0.1, 1024),
    'adpe-vit-s-ape_200e_in1k': (1e-3, 200, 0.75, 0.1, 1024),
    'adpe-vit-b_100e_in1k-10pct': (2.5e-4, 100, 0.65, 0.1, 512),
    'adpe-vit-b-ape_100e_in1k-10pct': (2.5e-4, 100, 0.65, 0.1, 512),
    'adpe-vit-b_100e_in1k-1pct': (5e-5, 100, 0.65, 0.0, 512),
    'adpe-vit-b-ape_100e_in1k-1pct': (5e-5, 100, 0.65, 0.0, 512),
}


def test_every_fine_tuning_has_a_source():
    linear = {path.stem for path in (CONFIGS / 'cls').glob('*_linear-*.py')}
    mini = {'adpe-vit-mini_mini'}
    assert {path.stem for path in (CONFIGS / 'cls').glob('*.py')} - linear - mini == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_fine_tuning_follows_the_formula_of_mae(name):
    """lr of every parameter at every iteration, floor and all.

    Warm-up alone differs, by mmengine's counting: it begins at 1e-4 of lr instead of 0, and has
    its full value one iteration earlier.
    """
    cfg = Config.fromfile(CONFIGS / 'cls' / f'{name}.py')
    blr, epochs, decay, drop_path, batch = RECIPES[name]
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=batch)
    assert cfg.model.backbone.drop_path_rate == drop_path
    warmup_epochs = 20 if '-vit-s' in name else 5
    warm_up = ITERATIONS * warmup_epochs // epochs
    expected = torch.tensor(
        [
            mae_lr(i / ITERATIONS * epochs, blr, batch, epochs, warmup_epochs)
            for i in range(ITERATIONS)
        ],
        dtype=torch.float64,
    )
    model, groups = groups_of(cfg)
    names = {id(param): name for name, param in model.named_parameters()}
    for group, lr in zip(groups, rates(cfg, groups), strict=True):
        scales = {
            mae_scale(names[id(param)], len(model.backbone.layers), decay)
            for param in group['params']
        }
        assert len(scales) == 1
        wanted = expected * scales.pop()
        lr = torch.tensor(lr, dtype=torch.float64)
        torch.testing.assert_close(lr[warm_up:], wanted[warm_up:], rtol=1e-9, atol=0)
        late = (lr - wanted)[:warm_up].abs().max() / wanted[warm_up]
        assert late < 1e-4 + 1.01 / (warm_up - 1)


def test_linear_probing_follows_the_formula_of_mae():
    """Its `main_linprobe.py`: base lr 0.1, batch 16384, 90 epochs, 10 of which warm up."""
    for path in (CONFIGS / 'cls').glob('*_linear-90e_in1k.py'):
        cfg = Config.fromfile(path)
        assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16384)
        assert cfg.train_cfg.max_epochs == 90
        settings = dict(cfg.optim_wrapper.optimizer)
        assert settings == dict(type='adpe_mm.LARS', lr=0.1 * 16384 / 256)
        (lr,) = rates(cfg, [dict(params=[], lr=settings['lr'])])
        warm_up = round(ITERATIONS * 10 / 90)
        for i in range(warm_up, ITERATIONS):
            angle = math.pi * (i - warm_up) / (ITERATIONS - warm_up)
            assert lr[i] == pytest.approx(3.2 * (1 + math.cos(angle)), rel=1e-9)
