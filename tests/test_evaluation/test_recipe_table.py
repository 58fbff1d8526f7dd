"""The table of recipes says what the configs do, and hides no deviation."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from adpe_mm.evaluation.recipes import Recipe, numbers, read_recipes, to_markdown

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
RECIPES = read_recipes(CONFIGS)


def test_every_full_size_config_is_there():
    found = {
        path.relative_to(CONFIGS).with_suffix('').as_posix()
        for task in ('pretrain', 'cls', 'seg', 'det')
        for path in (CONFIGS / task).glob('*.py')
        if not path.stem.endswith(('_mini', '-ms'))
    }
    assert {recipe.name for recipe in RECIPES} == found


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda recipe: recipe.name)
def test_what_deviates_has_a_reason_and_nothing_else(recipe):
    deviating = {*recipe.deviating, *recipe.unsourced}
    assert deviating <= set(recipe.reasons), (recipe.numbers, recipe.sources)


def test_no_reason_is_left_over():
    """Of each entry, every reason is needed by one of its configs."""
    needed = {}
    for recipe in RECIPES:
        needed.setdefault(id(recipe.reasons), (recipe.reasons, set()))[1].update(
            (*recipe.deviating, *recipe.unsourced)
        )
    for reasons, keys in needed.values():
        assert set(reasons) <= keys


def test_the_page_is_the_script_s():
    done = subprocess.run(
        [sys.executable, 'tools/analysis_tools/recipe_table.py'],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout[done.stdout.index('# Recipes') :] == (ROOT / 'docs/recipes.md').read_text()


def test_numbers_of_the_best_of_the_paper():
    """Against the official README, typed here again."""
    assert numbers(Config.fromfile(CONFIGS / 'pretrain' / 'adpe_vit-b_1600e.py')) == {
        'size': '112 px', 'batch': '4096', 'length': '1600 epochs', 'warm-up': '40 epochs',
        'lr': '0.0024', 'decay of lr': 'cosine to 0', 'ascent lr': '0.0024', 'optimiser': 'AdamW',
        'weight decay': '0.05', 'betas': '0.9, 0.95', 'mask': '0.75',
    }  # fmt: skip


def test_ranges_and_deviations():
    ours = {'lr': '2e-4', 'layer decay': '0.75', 'size': '512 px'}
    stated = {
        'lr': ('a', '5e-5 to 3e-4'), 'layer decay': ('a', '0.65'), 'drop path': ('b', '0.1')
    }  # fmt: skip
    recipe = Recipe('seg/x', ours, stated, {'layer decay': 'so it is'})
    assert recipe.deviating == ['layer decay', 'drop path'] and recipe.unsourced == ['size']
    text = to_markdown([recipe])
    assert '| 512 px | 2e-4 [1] | **0.75** [1] | **none** [2] |' in text
    assert '- **layer decay**, 0.65 in the source: so it is (`x`)' in text
