"""One HTML file of what a demo or a benchmark left, which needs nothing beside it."""

import base64
import html
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from PIL import Image

from .curves import plot_curves, plot_probes, read_probes, read_scalars
from .tables import grid, read_results, tables

# Scalars that are shown where a run logged them.
CURVES = ('loss', 'accuracy/top1', 'mIoU', 'coco/bbox_mAP', 'coco/segm_mAP', 'adversary/size')
WIDEST = 900  # pixels of an image
STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; }
td { white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
.row figure { margin: 0; flex: 0 1 13rem; }
figcaption, .note { font-size: 12px; opacity: .75; }
"""


def figure(image: Image.Image | Path, caption: str) -> str:
    """A figure with the image in it, scaled down where it is wide."""
    if isinstance(image, Path):
        image = Image.open(image)
    image = image.convert('RGB')
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)))
    data = io.BytesIO()
    image.save(data, 'PNG' if image.width < 300 else 'JPEG', quality=88)
    kind = 'png' if image.width < 300 else 'jpeg'
    code = base64.b64encode(data.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{code}" alt="{text}">'
        f'<figcaption>{text}</figcaption></figure>'
    )


def html_table(head: list[str], body: list[list[str]]) -> str:
    """A table that scrolls by itself where the window is narrow."""
    lines = ['<div class="wide"><table><tr>']
    lines += [f'<th>{html.escape(cell)}</th>' for cell in head]
    lines.append('</tr>')
    for row in body:
        lines.append('<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>')
    return ''.join(lines) + '</table></div>'


def runs(root: Path) -> list[Path]:
    """Work dirs with a log below a folder."""
    return sorted({path.parents[2] for path in root.rglob('*/vis_data/scalars.json')})


def curves(root: Path) -> Iterator[str]:
    """Curves of each run."""
    for run in runs(root):
        scalars = read_scalars(run)
        keys = [key for key in CURVES if key in scalars]
        if not keys:
            continue
        data = io.BytesIO()
        plot_curves({run.name: scalars}, keys).savefig(data, dpi=70)
        yield figure(Image.open(data), str(run.relative_to(root)))


def probes(root: Path) -> Iterator[str]:
    """Probes of each pretraining, over its epochs."""
    for run in runs(root):
        found = read_probes(run)
        if found:
            data = io.BytesIO()
            plot_probes(found).savefig(data, dpi=80)
            yield figure(Image.open(data), f'{run.relative_to(root)}: frozen features')


def reconstructions(root: Path) -> Iterator[str]:
    """The last sheet of each pretraining, and those of reconstruct.py."""
    for run in runs(root):
        sheets = sorted(
            run.rglob('reconstruction*.png'), key=lambda path: (path.stat().st_mtime, path.name)
        )
        if sheets:
            yield figure(sheets[-1], f'{run.relative_to(root)}: {sheets[-1].name}')
    for path in sorted(root.glob('reconstructions/*.png')):
        yield figure(path, path.name)


def predictions(root: Path, limit: int = 6) -> Iterator[str]:
    """Some images of each run."""
    for folder in sorted(root.rglob('predictions')):
        shown = sorted(folder.glob('drawn/**/*.png'))
        if shown:
            yield f'<h3>{html.escape(str(folder.parent.relative_to(root)))}</h3><div class="row">'
            yield from (figure(path, path.stem) for path in shown[:limit])
            yield '</div>'


def by_class(results: list[dict]) -> Iterator[str]:
    """Folded tables of the results by class."""
    for result in results:
        measures = result.get('per_class')
        if not measures:
            continue
        origin = result['pretraining']
        name = ' '.join(filter(None, (origin['method'], origin['variant'])))
        title = f'{name}, {result["head"]}, {result["dataset"]}, seed {result["seed"]}'
        classes = list(next(iter(measures.values())))
        columns = [[values.get(c) for c in classes] for values in measures.values()]
        body = [
            [c, *('-' if value is None else f'{value:.3g}' for value in values)]
            for c, *values in zip(classes, *columns, strict=True)
        ]
        yield f'<details><summary>{html.escape(title)}</summary>'
        yield html_table(['class', *measures], body) + '</details>'


def make_report(root: Path, title: str, published: list[dict]) -> str:
    """The whole page.

    Args:
        root: Folder of the runs.
        title: Of the page.
        published: Figures to compare with, of `load_paper`.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    results = read_results([root])
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>',
        f'<h1>{html.escape(title)}</h1>',
        f'<p class="note">{datetime.now():%Y-%m-%d %H:%M}',
    ]
    if results:
        last = max(results, key=lambda result: result['date'])
        libraries = ', '.join(f'{name} {version}' for name, version in last['versions'].items())
        parts.append(f'; {html.escape(last["device"])}; {html.escape(libraries)}')
    parts.append('</p>')
    paper, *measured = tables(results, published)
    for table in (*measured, paper):
        head, body, notes = grid(table)
        parts.append(f'<h2>{html.escape(table.title)}</h2>')
        if table.with_paper:
            parts.append('<p class="note">Published [source] / measured here (difference)</p>')
        else:
            parts.append('<p class="note">Percent; mean ± standard deviation (runs)</p>')
        parts.append(html_table(head, body))
        parts += [f'<div class="note">{html.escape(note)}</div>' for note in notes]
    for name, section in (
        ('Probes', probes(root)),
        ('Reconstructions', reconstructions(root)),
        ('Predictions', predictions(root)),
        ('Curves', curves(root)),
        ('Results by class', by_class(results)),
    ):
        content = list(section)
        if content:
            parts.append(f'<h2>{name}</h2>')
            wrap = name == 'Curves'
            parts += ['<div class="row">'] * wrap + content + ['</div>'] * wrap
    return '\n'.join((*parts, '</body></html>\n'))
