"""The documentation is built without a warning, its links lead somewhere, and its code runs."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from adpe_mm.launch import read_config

ROOT = Path(__file__).parents[1]
PYTHON_PAGES = ['docs/guides/extend.md']
TUTORIAL = ROOT / 'docs' / 'tutorial.ipynb'
TEXTS = [
    ROOT / 'README.md',
    *sorted((ROOT / 'docs').rglob('*.md')),
    *sorted((ROOT / 'configs').rglob('*.md')),
]
# The launchers of commands: which they start, and the places of its first arguments.
LAUNCHERS = {
    'tools/dist_train.sh': ('tools/train.py', [1]),
    'tools/dist_test.sh': ('tools/test.py', [1, 2]),
    'tools/slurm_train.sh': ('tools/train.py', [3]),
    'tools/slurm_test.sh': ('tools/test.py', [3, 4]),
}
FIRST_OPTION = {'tools/dist_train.sh': 3, 'tools/dist_test.sh': 4}
FIRST_OPTION |= {'tools/slurm_train.sh': 5, 'tools/slurm_test.sh': 5}


class Links(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(page.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ('id', 'name') if attrs.get(name)}
        self.links += [attrs[name] for name in ('href', 'src') if attrs.get(name)]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('sphinx')
    out = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
    command += ['-D', 'nb_execution_mode=off', 'docs', str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_links_lead_somewhere(site):
    pages = {page: Links(page) for page in site.rglob('*.html')}
    assert len(pages) > 20
    missing = []
    for page, found in pages.items():
        for link in found.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = page if not address.path else (page.parent / unquote(address.path)).resolve()
            anchors = pages[target].anchors if target in pages else None
            known = not address.fragment or anchors is None or unquote(address.fragment) in anchors
            if not target.exists() or not known:
                missing.append((page.name, link))
    assert not missing


@pytest.mark.slow
def test_pages_need_no_network(site):
    """Nothing that a page shows or runs comes from elsewhere; only links to read lead out."""
    for page in site.rglob('*.html'):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]*\shref="([^"]+)"', page.read_text())
        assert not [address for address in loaded if urlsplit(address).netloc], page


@pytest.mark.slow
def test_every_command_is_described(site):
    page = (site / 'reference' / 'commands.html').read_text(encoding='utf-8')
    for script in (ROOT / 'tools').rglob('*.py'):
        if 'ArgumentParser' in script.read_text(encoding='utf-8'):
            assert f'usage: python {script.relative_to(ROOT)}' in page


def blocks(path: Path, language: str) -> list[str]:
    """Blocks of code of a page."""
    return re.findall(rf'^```{language}\n(.*?)^```', path.read_text(encoding='utf-8'), re.M | re.S)


def python_environment(**more: str) -> dict[str, str]:
    """In which `python` is this one, and `adpe_mm` that of this clone."""
    folder = str(Path(sys.executable).parent)
    paths = dict(PATH=f'{folder}:{os.environ["PATH"]}', PYTHONPATH=str(ROOT))
    return os.environ | paths | more


@pytest.mark.slow
@pytest.mark.parametrize('page', PYTHON_PAGES)
def test_code_runs(page, tmp_path):
    """All blocks as one script; each config with the block before it as `mine.py`."""
    found = blocks(ROOT / page, 'python')
    configs = [i for i, text in enumerate(found) if text.startswith('_base_')]
    assert configs and len(found) - len(configs) > 4
    script = tmp_path / 'page.py'
    script.write_text('\n'.join(text for i, text in enumerate(found) if i not in configs))
    runs = [[script]]
    for i in configs:
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / 'mine.py').write_text(found[i - 1])
        config = folder / 'config.py'
        config.write_text(found[i].replace("_base_ = '", f"_base_ = '{ROOT}/"))
        build = (
            'import sys; from mmengine.config import Config\n'
            f'sys.path.insert(0, {str(folder)!r}); cfg = Config.fromfile({str(config)!r})\n'
            'from mmpretrain.registry import MODELS\n'
            'print(type(MODELS.build(cfg.model).backbone).__module__)'
        )
        runs.append(['-c', build])
    for arguments in runs:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=python_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert arguments[0] != '-c' or done.stdout.split()[-1] == 'mine'


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Every command of `tools/` that a page shows: the script, and what it is given."""
    found = []
    for block in blocks(path, 'bash'):
        variables = {}
        for line in re.sub(r'\\\n\s*', ' ', block).splitlines():
            for name, value in variables.items():
                line = line.replace(f'${name}', value)
            words = shlex.split(line.removeprefix('$ '), comments=True)
            if len(words) == 1 and re.fullmatch(r'\w+=.*', words[0], re.S):
                name, _, variables[name] = words[0].partition('=')
                continue
            while words and re.fullmatch(r'\w+=.*', words[0], re.S):
                words.pop(0)
            end = next((i for i, w in enumerate(words) if re.match(r'[12]?>|\||&&', w)), None)
            words = [word.strip('[]') if '=' not in word else word for word in words[:end]]
            if '...' in words:
                continue
            if 'python' in words:  # mpirun -np 8 python ...
                words = words[words.index('python') :]
            if words[:1] == ['python'] and words[1].startswith('tools/'):
                found.append((words[1], words[2:]))
            elif words[:1] and words[0] in LAUNCHERS:
                script, places = LAUNCHERS[words[0]]
                options = words[FIRST_OPTION[words[0]] :]
                found.append((script, [*(words[i] for i in places), *options]))
    return found


@cache
def parser_of(script: str):
    sys.path.insert(0, str(ROOT / 'docs' / '_ext'))
    try:
        import commands as extension
    finally:
        sys.path.pop(0)
    return extension.parser_of(ROOT / script)


@pytest.mark.slow
@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_are_understood(path, monkeypatch):
    """By the parser of the command; and configs have a place for their options."""
    pytest.importorskip('sphinx')
    monkeypatch.chdir(ROOT)
    for script, words in commands(path):
        arguments = parser_of(script).parse_args(words)
        for word in words:
            if word.startswith('configs/') and '{' not in word:
                assert Path(word).exists(), word
        config = str(getattr(arguments, 'config', ''))
        if Path(config).is_file() and getattr(arguments, 'cfg_options', None):
            read_config(config, arguments.cfg_options)


def test_commands_are_found():
    """The test above would also pass if it saw none."""
    found = [script for path in TEXTS for script, _ in commands(path)]
    assert len(found) > 70
    assert {'tools/train.py', 'tools/test.py', 'tools/probe.py'} <= set(found)


def test_figures_of_the_mini_benchmark_are_those_of_a_dated_run():
    figure = r'\d+\.\d ± \d+\.\d'
    dated = ''.join(path.read_text() for path in (ROOT / 'docs' / 'benchmarks').glob('20*.md'))
    page = (ROOT / 'docs' / 'mini_benchmark.md').read_text()
    assert len(re.findall(figure, page)) > 40
    assert set(re.findall(figure, page)) <= set(re.findall(figure, dated))


@pytest.mark.slow
def test_tutorial_runs(tmp_path, monkeypatch):
    """Every cell, with a training too short to learn; each picture is there."""
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    for name, value in python_environment(
        EPOCHS='1', SCENES='240', WORK_DIR=str(tmp_path), OMP_NUM_THREADS='1'
    ).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    resources = dict(metadata=dict(path=str(TUTORIAL.parent)))
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name='python3', resources=resources
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    pictures = [
        output
        for output in outputs
        if any(kind.startswith('image/') for kind in output.get('data', {}))
    ]
    assert len(pictures) == 5
    text = ''.join(output.get('text', '') for output in outputs)
    assert 'after epoch 1' in text and re.search(r'mIoU: \d', text)
