"""Links to files of the repository, in pages that include one of its Markdown files.

A link there is relative to the file, not to the page. One to a file that is a page becomes a link
to that page, one to any other file or folder that exists is shown without a link, and one to
nothing keeps its warning, which is an error in `make docs`.
"""

from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
# Page: the file that it includes, or a part of.
INCLUDED = {
    'index': 'README.md',
    'changelog': 'CHANGELOG.md',
    'contributing': 'CONTRIBUTING.md',
    'guides/pretrain': 'README.md',
    'guides/transfer': 'README.md',
    'guides/own_data': 'README.md',
    'results/pretrain': 'configs/pretrain/README.md',
    'results/cls': 'configs/cls/README.md',
    'results/seg': 'configs/seg/README.md',
    'results/det': 'configs/det/README.md',
    'results/benchmarks': 'configs/benchmarks/README.md',
}
PAGES = {file: page for page, file in INCLUDED.items() if not page.startswith('guides/')}


class RepositoryLinks(SphinxPostTransform):
    """Before MyST's own resolver, which knows the pages alone."""

    default_priority = 8

    def run(self, **kwargs) -> None:
        page = self.env.docname
        folder = PurePosixPath(INCLUDED.get(page, f'docs/{page}')).parent
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get('reftype') != 'myst':
                continue
            path, _, anchor = node['reftarget'].partition('#')
            if node.get('refdomain') == 'doc':  # MyST has made a page of it, without a suffix
                path, anchor = (
                    relpath(ROOT / 'docs' / f'{path}.md', ROOT / folder),
                    node['reftargetid'],
                )
            path = normpath(folder / path) if path else ''
            target = PAGES.get(path, path.removeprefix('docs/').removesuffix('.md'))
            if target in self.env.found_docs:
                anchor = f'#{anchor}' if anchor else ''
                uri = self.app.builder.get_relative_uri(page, target) + anchor
                link = nodes.reference(refuri=uri, internal=True)
                link += node.children
                node.replace_self(link)
            elif path and (ROOT / path).exists():
                node.replace_self(node.children)


def setup(app: Sphinx) -> dict:
    app.add_post_transform(RepositoryLinks)
    return dict(version='1', parallel_read_safe=True)
