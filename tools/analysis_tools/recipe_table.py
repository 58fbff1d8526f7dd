#!/usr/bin/env python
"""Write the table of all recipes, their numbers and the source of each, from the configs.

    python tools/analysis_tools/recipe_table.py > docs/recipes.md

Sources, and reasons for what deviates, are in configs/sources.yml.
"""

import argparse
import sys
from pathlib import Path

from adpe_mm.evaluation.recipes import read_recipes, to_markdown
from adpe_mm.launch import one_sentence_errors

CONFIGS = Path(__file__).parents[2] / 'configs'
HEAD = """# Recipes

Every full-size recipe, its numbers, and the source of each in brackets. **Bold** numbers are not
those of their source; the lines below a table say why. lr is for the batch of the table, images per
optimiser step, and follows the real one. What a number cannot say (augmentation, optimiser details,
the network) is in the README of each folder of [configs](../configs).

Made by `python tools/analysis_tools/recipe_table.py > docs/recipes.md` from the configs and
[configs/sources.yml](../configs/sources.yml); a test keeps it true.

"""


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(HEAD + to_markdown(read_recipes(CONFIGS)), end='')


if __name__ == '__main__':
    with one_sentence_errors('recipe_table'):
        sys.exit(main())
