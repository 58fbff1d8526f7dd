"""Overrides mean what a user wrote."""

import argparse

import pytest
from mmengine.config import Config, DictAction

from adpe_mm.options import ConfigOptions, Option, merge_options


def merged(*texts: str) -> Config:
    """A config after ``--cfg-options`` with some words of a shell."""
    cfg = Config(
        dict(
            data=dict(data_root='data/x', classes=('a', 'b'), shuffle=True, ann=''),
            lr=1e-3,
            load_from=None,
            param_scheduler=[dict(type='LinearLR', end=0.5)],
        )
    )
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions)
    merge_options(cfg, parser.parse_args(['--cfg-options', *texts]).cfg_options)
    return cfg


@pytest.mark.parametrize(
    'text', ['my photos', '2024', 'a,b', '1e3', 'true', 'my photos, of 2024', '/a (copy)/b', 'x=1']
)
def test_paths_stay_as_they_are(text):
    assert merged(f'data.data_root={text}').data.data_root == text
    assert merged(f'load_from={text}').load_from == text  # None before
    assert merged(f'test_dataloader.data_root={text}').test_dataloader.data_root == text  # new
    assert merged(f'data.ann={text}').data.ann == text


@pytest.mark.parametrize(
    'text',
    ['3', '1e-4', 'True', 'false', 'None', 'abc', '1,2', '[a,b]', '(1,2)', '[(1,2),[a,b],c]', '[]'],
)
def test_all_else_is_as_in_openmmlab(text):
    expected = DictAction._parse_iterable(text)
    found = merged(f'lr={text}').lr
    assert found == expected and type(found) is type(expected)


def test_lists_keep_the_blanks_of_their_texts():
    assert merged('data.classes=[traffic light, stop sign]').data.classes == [
        'traffic light',
        'stop sign',
    ]
    assert merged('data.classes=(traffic light,)').data.classes == ('traffic light',)
    assert merged('data.classes=["a, b", c]').data.classes == ['a, b', 'c']


def test_texts_may_become_something_else():
    assert merged('data.data_root=None').data.data_root is None
    assert merged('data.data_root=[a, b]').data.data_root == ['a', 'b']
    assert merged('lr="2024"').lr == '2024'
    assert merged('data.shuffle=False', 'param_scheduler.0.end=0.25').param_scheduler[0].end == 0.25


def test_several_and_later_ones():
    cfg = merged('lr=1', 'data.data_root=a b', 'lr=2')
    assert (cfg.lr, cfg.data.data_root) == (2, 'a b')


def test_values_of_python_are_taken_as_they_are():
    cfg = Config(dict(a='x'))
    merge_options(cfg, {'a': 1, 'b': 'c,d'})
    assert (cfg.a, cfg.b) == (1, 'c,d')


def test_mistakes(capsys):
    with pytest.raises(SystemExit):
        merged('data.data_root=my', 'photos')
    assert "'photos' has no '=': quote what has blanks" in capsys.readouterr().err
    for text in ('[(1,2]', '[1,(2]', '(1,2))'):
        with pytest.raises(ValueError, match='brackets of .* do not match'):
            merge_options(Config(dict(a=1)), {'a': Option(text)})
