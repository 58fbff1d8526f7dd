"""The documentation is built without a warning, its links lead somewhere, and its code runs."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PYTHON_PAGES = ['docs/guides/extend.md']


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
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', 'docs', str(out)]
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


@pytest.mark.parametrize('page', PYTHON_PAGES)
def test_code_runs(page, tmp_path):
    blocks = re.findall(r'^```python\n(.*?)^```', (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    script = tmp_path / 'page.py'
    script.write_text('\n'.join(blocks), encoding='utf-8')
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
