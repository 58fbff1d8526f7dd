"""Configs lead to each other: what they begin from is made by another; metafiles list them all."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / 'configs'
PARTS = ('pretrain', 'cls', 'seg', 'det')
# Mini configs are for tests and benchmarks: there is no model of them to look for.
LISTED = {
    part: {p.stem: p for p in sorted((CONFIGS / part).glob('*.py')) if 'mini' not in p.stem}
    for part in PARTS
}
ALL = [path for part in PARTS for path in sorted((CONFIGS / part).glob('*.py'))]


def begins_from(path):
    """``init_cfg`` of a config's backbone, or None."""
    init_cfg = Config.fromfile(path).model.backbone.get('init_cfg')
    return init_cfg if init_cfg and init_cfg.type == 'Pretrained' else None


BEGINNING = [path for path in ALL if begins_from(path)]
CONVERTED = [path for path in BEGINNING if path.parent.name == 'pretrain']
TASKS = [path for path in BEGINNING if path not in CONVERTED]


def test_every_task_begins_from_something():
    assert [path for path in ALL if path.parent.name != 'pretrain'] == TASKS
    assert CONVERTED and all('from-mae' in path.stem for path in CONVERTED)


@pytest.mark.parametrize('path', TASKS, ids=lambda path: path.stem)
def test_checkpoint_is_made_by_a_pretraining_config(path):
    """It is the last one of a config here, of the same network."""
    cfg = Config.fromfile(path)
    folder, name, file = Path(begins_from(path).checkpoint).parts
    source = CONFIGS / 'pretrain' / f'{name}.py'
    assert folder == 'work_dirs' and source.is_file(), source
    pretraining = Config.fromfile(source)
    assert file == f'epoch_{pretraining.train_cfg.max_epochs}.pth'
    ours, theirs = cfg.model.backbone, pretraining.model.backbone
    for key, default in (('arch', 'b'), ('position', 'ape')):
        assert ours.get(key, default) == theirs.get(key, default), key
    assert ours.get('rpe_lookup') in (None, theirs.get('rpe_lookup', 'bucket'))


@pytest.mark.parametrize('path', CONVERTED, ids=lambda path: path.stem)
def test_converted_checkpoint_is_made_by_the_command_of_the_docstring(path):
    words = []
    for line in path.read_text().partition('mae_to_adpe.py')[2].split('\n'):
        words += line.rstrip('\\').split()
        if not line.endswith('\\'):
            break
    backbone = Config.fromfile(path).model.backbone
    assert begins_from(path).checkpoint in words
    lookup = words[words.index('--rpe-lookup') + 1] if '--rpe-lookup' in words else None
    assert lookup == (backbone.rpe_lookup if backbone.position == 'rpe' else None)


@pytest.mark.parametrize('part', PARTS)
def test_metafile_lists_every_config(part):
    content = yaml.safe_load((CONFIGS / part / 'metafile.yml').read_text())
    collections = {collection['Name']: collection for collection in content['Collections']}
    assert {c['README'] for c in content['Collections']} == {f'configs/{part}/README.md'}
    names = [model['Name'] for model in content['Models']]
    assert sorted(names) == sorted(LISTED[part])
    for model in content['Models']:
        path = LISTED[part][model['Name']]
        assert model['Config'] == path.relative_to(CONFIGS.parent).as_posix()
        cfg = Config.fromfile(path)
        relative = cfg.model.backbone.get('position', 'ape') == 'rpe'
        expected = ['Vision Transformer', 'iRPE'] if relative else ['Vision Transformer']
        # What a model says of itself goes before what its collection says of all.
        metadata = collections[model['In Collection']]['Metadata'] | model['Metadata']
        assert metadata['Architecture'] == expected, model['Name']
        for key, option in (('Epochs', 'max_epochs'), ('Iterations', 'max_iters')):
            assert metadata.get(key) in (None, cfg.train_cfg.get(option)), model['Name']
        assert part != 'pretrain' or 'Epochs' in metadata
        if 'Batch Size' in metadata and '1gpu' not in path.stem:
            assert metadata['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        assert (model['Results'] is None) == ('not run' in path.read_text().replace('\n', ' '))


def test_index_names_the_metafiles():
    index = yaml.safe_load((CONFIGS.parent / 'model-index.yml').read_text())
    assert index['Import'] == [f'configs/{part}/metafile.yml' for part in PARTS]
