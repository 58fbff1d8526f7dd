"""How the documentation is made: `make docs`, into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / '_ext'))

from adpe_mm.version import __version__

project = 'adpe_mm'
author = 'The adpe_mm contributors'
version = release = __version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'myst_nb',
    'sphinx_copybutton',
    'commands',
    'mathml',
    'repository',
    'sentences',
]
exclude_patterns = ['_build', '_ext', 'jupyter_execute', '.*']
suppress_warnings = ['myst.strikethrough']
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist']
myst_heading_anchors = 4
nb_execution_mode = 'off'  # tests/test_docs.py executes the notebook; the page shows its outputs
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # Google docstrings say it, with shapes
napoleon_use_rtype = False
default_role = 'code'  # docstrings put names into single backquotes

html_theme = 'furo'
html_math_renderer = 'mathml'
html_title = f'adpe_mm {__version__}'
html_static_path = ['images', '_static']
html_css_files = ['pages.css']
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
