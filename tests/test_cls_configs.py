"""What the classification configs must agree on, beside what all configs must."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from PIL import Image

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs' / 'cls').glob('*.py'))
PUBLISHED = [path for path in CONFIGS if 'mini' not in path.stem]
WIDTHS = dict(s=384, b=768, l=1024, h=1280)
DEPTHS = dict(s=12, b=12, l=24, h=32)


def values(key, part):
    """All values of a key, however deep."""
    found = []
    if isinstance(part, dict):
        found += [part[key]] if key in part else []
        part = part.values()
    elif not isinstance(part, list | tuple):
        return found
    for piece in part:
        found += values(key, piece)
    return found


@pytest.mark.parametrize('path', PUBLISHED, ids=lambda path: path.stem)
def test_a_name_says_what_a_config_is(path):
    """Size of network and image, positions, epochs, and which checkpoint it begins from."""
    cfg = Config.fromfile(path)
    size, ape, rest = re.fullmatch(r'adpe-vit-(\w)(-ape)?_(.*)', path.stem).groups()
    backbone, pixels = cfg.model.backbone, int((re.findall(r'(\d+)px', rest) or [224])[0])
    assert backbone.arch == size and cfg.model.head.in_channels == WIDTHS[size]
    assert backbone.position == ('ape' if ape else 'rpe')
    assert cfg.train_cfg.max_epochs == int(re.search(r'(\d+)e_in1k', rest)[1])
    source = f'adpe_vit-{size}{"_ape-coord" if ape else ""}_'
    assert backbone.init_cfg.checkpoint.startswith(f'work_dirs/{source}')
    assert ('linear' in rest) == (backbone.get('frozen_stages', -1) == DEPTHS[size])
    assert backbone.img_size == pixels
    whole = {224: 256}.get(pixels, pixels)  # MAE tests above 224 px without a margin
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert values('scale', loader.dataset.pipeline) == [whole]
        assert values('crop_size', loader.dataset.pipeline) == [pixels]
    assert values('scale', cfg.tta_pipeline) == [whole]
    assert values('crop_size', cfg.tta_pipeline) == [pixels]
    crop = cfg.train_dataloader.dataset.pipeline[1]
    assert crop.get('scale', crop.get('size')) == pixels


@pytest.mark.parametrize('ape', ['', '-ape'])
def test_parts_of_imagenet(ape):
    """1 % is trained without what protects from too many epochs on many images."""
    tenth, hundredth, whole = (
        Config.fromfile(ROOT / f'configs/cls/adpe-vit-b{ape}_100e_in1k{part}.py')
        for part in ('-10pct', '-1pct', '')
    )
    for cfg, subset in ((tenth, '10percent.txt'), (hundredth, '1percent.txt')):
        dataset = cfg.train_dataloader.dataset
        assert (dataset.type, dataset.subset) == ('adpe_mm.ImageNetSubset', subset)
        assert cfg.val_dataloader == whole.val_dataloader
    steps = [step['type'] for step in whole.train_dataloader.dataset.pipeline]
    assert [step['type'] for step in tenth.train_dataloader.dataset.pipeline] == steps
    steps.remove('RandomErasing')
    assert [step['type'] for step in hundredth.train_dataloader.dataset.pipeline] == steps
    assert len(tenth.model.train_cfg.augments) == 2 and not hundredth.model.train_cfg.augments


def test_the_metafile_is_complete_and_agrees_with_the_configs():
    index = yaml.safe_load((ROOT / 'configs/cls/metafile.yml').read_text())
    collections = {entry['Name']: entry for entry in index['Collections']}
    assert {entry['Name'] for entry in index['Models']} == {path.stem for path in PUBLISHED}
    for entry in index['Models']:
        assert entry['Config'] == f'configs/cls/{entry["Name"]}.py'
        cfg = Config.fromfile(ROOT / entry['Config'])
        kinds = collections[entry['In Collection']]['Metadata']['Architecture']
        assert ('iRPE' in kinds) == (cfg.model.backbone.position == 'rpe')
        assert entry['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
        assert entry['Metadata']['Batch Size'] == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('source', ['docstring', 'metafile'])
def test_published_figures_are_those_of_the_readme(source):
    """A figure is written down three times: here they are compared."""
    readme = (ROOT / 'configs/cls/README.md').read_text()
    index = yaml.safe_load((ROOT / 'configs/cls/metafile.yml').read_text())
    published = {entry['Name']: entry['Metadata'].get('Published', '') for entry in index['Models']}
    known = set(re.findall(r'\b\d\d\.\d\b', readme))
    for path in PUBLISHED:
        text = path.read_text().split('"""')[1] if source == 'docstring' else published[path.stem]
        figures = set(re.findall(r'\b\d\d\.\d\b', text))
        assert figures <= known, path.stem
        if source == 'metafile':
            doc = path.read_text().split('"""')[1]
            assert figures <= set(re.findall(r'\b\d\d\.\d\b', doc)) or 'see there' in doc, path.stem


class Start(Hook):
    """Keeps what the training began from."""

    def before_train(self, runner):
        self.weights = {name: w.clone() for name, w in runner.model.state_dict().items()}


@pytest.mark.slow
def test_linear_probing_trains_the_layer_alone(tmp_path):
    """The real config on a tiny network: features are frozen, LARS moves the layer, and it learns
    to tell red images from blue ones."""
    for split, number in (('train', 16), ('val', 4)):
        for name, colour in (('blue', (0, 0, 200)), ('red', (200, 0, 0))):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                noise = np.random.default_rng(i).integers(0, 50, (40, 40, 3)).astype(np.uint8)
                Image.fromarray(noise + np.uint8(colour)).save(folder / f'{i}.JPEG')
    cfg = Config.fromfile(ROOT / 'configs/cls/adpe-vit-b_linear-90e_in1k.py')
    arch = dict(_delete_=True, embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    overrides = {
        'work_dir': str(tmp_path / 'run'),
        'model.data_preprocessor.num_classes': 2,
        'model.backbone.arch': arch,
        'model.backbone.img_size': 32,
        'model.backbone.patch_size': 8,
        'model.backbone.frozen_stages': 2,
        'model.backbone.init_cfg': None,
        'model.neck.input_features': 24,
        'model.head.in_channels': 24,
        'model.head.num_classes': 2,
        'model.head.topk': (1,),
        'train_dataloader.batch_size': 8,
        'train_dataloader.dataset.pipeline.1.size': 32,
        'val_evaluator.topk': (1,),
        'test_evaluator.topk': (1,),
        'optim_wrapper.accumulative_counts': 2,
        'auto_scale_lr.base_batch_size': 16,
        'train_cfg.max_epochs': 30,
        'train_cfg.val_interval': 30,
        'default_hooks.checkpoint.interval': 30,
        'visualizer.vis_backends': [dict(type='LocalVisBackend')],
    }
    for name in ('train', 'val', 'test'):
        overrides |= {
            f'{name}_dataloader.num_workers': 0,
            f'{name}_dataloader.persistent_workers': False,
            f'{name}_dataloader.dataset.data_root': str(tmp_path / 'data'),
            f'{name}_dataloader.dataset.metainfo': dict(classes=('blue', 'red')),
        }
    cfg.merge_from_dict(overrides)
    runner = RUNNERS.build(cfg)
    start = Start()
    runner.register_hook(start)
    trained = {name for name, param in runner.model.named_parameters() if param.requires_grad}
    assert trained == {'head.fc.weight', 'head.fc.bias'}
    runner.train()
    assert not runner.model.backbone.layers[0].training
    changed = {
        name for name, value in runner.model.state_dict().items()
        if not torch.equal(value, start.weights[name])
    }  # fmt: skip
    normed = {'neck.bn.running_mean', 'neck.bn.running_var', 'neck.bn.num_batches_tracked'}
    assert changed == trained | normed
    assert runner.val_loop.run()['accuracy/top1'] == 100
