"""Every config parses, builds at full size, and names nothing that nobody reads."""

import inspect
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    EVALUATOR,
    HOOKS,
    LOG_PROCESSORS,
    VISUALIZERS,
    DefaultScope,
    init_default_scope,
)
from torch.utils.data import DataLoader

from adpe_mm.engine import (
    AdPERunner,
    FiniteHook,
    LayerDecayOptimWrapperConstructor,
    SafeCheckpointHook,
)
from adpe_mm.models import NoAdversary
from adpe_mm.registry import LOOPS, MODELS, RUNNERS, TRANSFORMS

CONFIGS = Path(__file__).parents[1] / 'configs'
MAE = CONFIGS / 'pretrain' / 'mae_vit-mini_mini.py'
PRETRAIN = sorted(set((CONFIGS / 'pretrain').glob('*.py')) - {MAE})
TASKS = sorted(path for task in ('cls', 'seg', 'det') for path in (CONFIGS / task).glob('*.py'))
BENCHMARKS = sorted((CONFIGS / 'benchmarks').rglob('*.py'))
ALL = [*PRETRAIN, MAE, *TASKS, *BENCHMARKS]

# What a runner reads.
KEYS = {
    'model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'auto_scale_lr', 'param_scheduler',
    'default_scope', 'default_hooks', 'custom_hooks', 'env_cfg', 'visualizer', 'vis_backends',
    'log_processor', 'log_level', 'load_from', 'resume', 'randomness', 'runner_type', 'strategy',
    'val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg',
    'tta', 'tta_model', 'tta_pipeline',  # by tools/test.py
    'custom_imports',  # by Config.fromfile
    'classes', 'mask_values',  # by tools/train.py and tools/test.py
}  # fmt: skip
# What mmengine's Runner and torch's DataLoader read.
LOADER_KEYS = {*inspect.signature(DataLoader).parameters, 'collate_fn', 'sampler', 'dataset'}


@pytest.fixture(autouse=True)
def scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmpretrain')
    yield
    if before is not None:
        DefaultScope.get_instance(before.instance_name)


def assert_guarded(cfg):
    """Nothing broken is saved, trained on, or takes the place of what is good."""
    assert HOOKS.get(cfg.default_hooks.finite.type) is FiniteHook
    assert HOOKS.get(cfg.default_hooks.checkpoint.type) is SafeCheckpointHook
    assert RUNNERS.get(cfg.runner_type) is AdPERunner


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_pretraining_config_builds(path):
    cfg = Config.fromfile(path)
    assert_guarded(cfg)
    assert set(cfg.keys()) <= KEYS, set(cfg.keys()) - KEYS
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    adversary = 'adversary' in cfg.model
    assert (type(model.adversary) is not NoAdversary) == adversary == path.stem.startswith('adpe')
    optimizer = dict(optimizer=dict(cfg.optim_wrapper.optimizer))
    constructor = LayerDecayOptimWrapperConstructor(optimizer, cfg.optim_wrapper.paramwise_cfg)
    groups = constructor.param_groups(model, cfg.optim_wrapper.optimizer)
    assert len(groups) == 2 + adversary
    assert LOOPS.get(cfg.train_cfg.type) and RUNNERS.get(cfg.runner_type)
    for transform in cfg.train_dataloader.dataset.pipeline:
        TRANSFORMS.build(transform)


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_schedule_arithmetic(path):
    """Warm-up and cosine meet; the batch is what lr is meant for."""
    cfg = Config.fromfile(path)
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin
    if 'mini' in path.stem:
        return
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)
    assert cfg.auto_scale_lr.enable and cfg.auto_scale_lr.base_batch_size == 4096
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    gpus = 1 if '1gpu' in path.stem else 8
    batch = gpus * cfg.train_dataloader.batch_size * accumulated
    if '1gpu' in path.stem:
        assert batch == 512  # the lr follows it
        return
    assert batch == 4096
    epochs = int(path.stem.rpartition('_')[2].removesuffix('e'))
    assert cfg.train_cfg.max_epochs == epochs
    assert warm_up.end * epochs == {400: 20, 1600: 40}[epochs]


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_docstring_says_what_it_is_how_it_runs_and_what_to_expect(path):
    text = path.read_text()
    doc = text.split('"""')[1]
    assert path.relative_to(CONFIGS.parent).as_posix() in doc
    assert 'not run' in doc.replace('\n', ' ') or 'Measured' in doc


def build_parts(cfg):
    """Build all that a config describes, but what needs data or a process group."""
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader')
        if loader is None:
            continue
        assert set(loader) <= LOADER_KEYS, set(loader) - LOADER_KEYS
        for transform in loader.dataset.pipeline:
            TRANSFORMS.build(transform)
        dataset = dict(loader.dataset)
        dataset.pop('pipeline')
        if dataset['type'] not in ('adpe_mm.Images', 'ImageNet', 'CustomDataset'):
            DATASETS.build(dict(dataset, lazy_init=True))
    for evaluator in ('val_evaluator', 'test_evaluator'):
        if cfg.get(evaluator) and not cfg[evaluator].type.endswith('CocoMetric'):  # reads its file
            EVALUATOR.build(dict(type='Evaluator', metrics=cfg[evaluator]))
    for transform in cfg.get('tta_pipeline', []):
        TRANSFORMS.build(transform)
    if 'tta_model' in cfg:
        MODELS.build(dict(cfg.tta_model, module=model))
    VISUALIZERS.build(dict(cfg.visualizer, name='configs', vis_backends=None))
    for hook in filter(None, cfg.default_hooks.values()):
        HOOKS.build(hook)
    LOG_PROCESSORS.build(dict(cfg.log_processor, type='LogProcessor'))
    return model


@pytest.mark.parametrize('path', [MAE, *TASKS], ids=lambda path: path.stem)
def test_task_config_builds(path):
    cfg = Config.fromfile(path)
    assert_guarded(cfg)
    assert set(cfg.keys()) <= KEYS, set(cfg.keys()) - KEYS
    init_default_scope(cfg.default_scope)
    model = build_parts(cfg)
    optimizer = dict(optimizer=dict(cfg.optim_wrapper.optimizer))
    paramwise = cfg.optim_wrapper.get('paramwise_cfg')
    groups = LayerDecayOptimWrapperConstructor(optimizer, paramwise).param_groups(
        model, cfg.optim_wrapper.optimizer
    )
    rate = (paramwise or {}).get('layer_decay_rate', 1.0)
    if rate == 1:
        assert len({group['lr'] for group in groups}) == 1
    else:
        depths = {group['depth'] for group in groups}
        assert depths == set(range(model.backbone.num_layers + 2))
    assert LOOPS.get(cfg.train_cfg.type) and RUNNERS.get(cfg.runner_type)


@pytest.mark.parametrize('path', BENCHMARKS, ids=lambda path: '/'.join(path.parts[-2:]))
def test_benchmark_config_builds(path):
    cfg = Config.fromfile(path)
    assert_guarded(cfg)
    assert set(cfg.keys()) <= KEYS, set(cfg.keys()) - KEYS
    init_default_scope(cfg.default_scope)
    build_parts(cfg)
    warm_up, decay = cfg.param_scheduler
    assert decay.type == 'MultiStepLR' or decay.begin == warm_up.end


def test_an_environment_variable_says_where_mini_scenes_are(monkeypatch):
    path = CONFIGS / 'benchmarks' / 'mini' / 'det.py'
    assert Config.fromfile(path).val_dataloader.dataset.data_root == 'data/mini_benchmark/coco'
    monkeypatch.setenv('MINI_DATA', 'elsewhere')
    cfg = Config.fromfile(path)
    assert cfg.train_dataloader.dataset.data_root == 'elsewhere/coco'
    assert cfg.test_evaluator.ann_file == 'elsewhere/coco/annotations/instances_val2017.json'


@pytest.mark.parametrize(
    'path', [path for path in TASKS if path.parent.name != 'det'], ids=lambda path: path.stem
)
def test_task_schedule_arithmetic(path):
    """Warm-up and decay meet; the batch is what lr is meant for. Detection: test_detection/."""
    cfg = Config.fromfile(path)
    warm_up, decay = cfg.param_scheduler
    assert decay.begin == warm_up.end
    if 'mini' in path.stem:
        return
    batch = 8 * cfg.train_dataloader.batch_size * cfg.optim_wrapper.get('accumulative_counts', 1)
    assert batch == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('path', TASKS, ids=lambda path: path.stem)
def test_classes_agree(path):
    """As many classes in the heads as in the data."""
    cfg = Config.fromfile(path)
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    expected = {
        'ImageNet': 1000, 'adpe_mm.ImageNetSubset': 1000, 'ADE20KDataset': 150,
        'adpe_mm.CocoDataset': 80, 'CustomDataset': 8,
    }  # fmt: skip
    wanted = len(metainfo.classes) if metainfo else expected[cfg.train_dataloader.dataset.type]
    found = []

    def collect(value):
        if isinstance(value, dict):
            if 'num_classes' in value:
                found.append(value['num_classes'])
            for part in value.values():
                collect(part)
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part)

    collect(cfg.model)
    assert found and set(found) == {wanted}
    assert cfg.val_dataloader == cfg.test_dataloader
    assert cfg.val_evaluator == cfg.test_evaluator


def shapes_of(path, size):
    """Parameters in millions, and the shapes of the features that reach the heads."""
    cfg = Config.fromfile(CONFIGS / path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        images = torch.zeros(1, 3, size, size)
        if cfg.default_scope == 'mmpretrain':
            features = model(images)
        else:
            features = model.extract_feat(images)
            heads = model.decode_head if cfg.default_scope == 'mmseg' else model.rpn_head
            out = heads(features)
            features = [*features, out if torch.is_tensor(out) else out[0][0]]
        features = [features] if torch.is_tensor(features) else features
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return millions, [tuple(f.shape[1:]) for f in features]


@pytest.mark.parametrize('ape', ['', '-ape'])
def test_published_sizes_and_shapes(ape):
    """MAE: ViT-B 86 M; detectron2's ViTDet-B Mask R-CNN 111 M."""
    millions, shapes = shapes_of(f'cls/adpe-vit-b{ape}_100e_in1k.py', 224)
    assert millions == pytest.approx(86.6, abs=0.1)
    assert shapes == [(768,)] or shapes == [(1000,)]
    millions, shapes = shapes_of(f'det/mask-rcnn_adpe-vit-b{ape}_100e_coco.py', 1024)
    assert millions == pytest.approx(111, abs=0.5)
    assert shapes == [(256, side, side) for side in (256, 128, 64, 32, 16)] + [(3, 256, 256)]
    millions, shapes = shapes_of(f'seg/upernet_adpe-vit-b{ape}_160k_ade20k-512x512.py', 512)
    assert shapes == [(768, side, side) for side in (128, 64, 32, 16)] + [(150, 128, 128)]


@pytest.mark.parametrize(
    'name, millions',
    # Encoder, decoder and mask token of MAE at patch 16 and crop 112; iRPE adds 50 x 64 per block.
    [('maeplus_vit-b_ape_400e', 111.7), ('adpe_vit-b_1600e', 111.7)],
)
def test_published_network_sizes(name, millions):
    cfg = Config.fromfile(CONFIGS / 'pretrain' / f'{name}.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
