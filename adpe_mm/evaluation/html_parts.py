"""Parts of a page that needs nothing beside it: figures, tables, and how it looks."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

WIDEST = 1100  # pixels of an image
STYLE = """
:root { color-scheme: light dark; --line: #8886; --paper: light-dark(#fff, #181818); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem;
  padding: 0 1rem; background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.lead p { font-size: 1.1rem; margin: .4rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: right; }
th { vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
.text { text-align: left; }
img { max-width: 100%; height: auto; background: #fff; }
figure { margin: .5rem 0; }
.row { display: flex; flex-wrap: wrap; gap: .5rem 1rem; }
.row figure { flex: 0 1 30rem; margin: 0; }
.small figure { flex-basis: 13rem; }
figcaption, .note { font-size: 12px; opacity: .75; }
"""


def opened(path: Path) -> Image.Image | None:
    """An image, RGB; None while it is being written."""
    try:
        with Image.open(path) as image:
            return image.convert('RGB')
    except OSError:
        return None


def figure(image: Path | np.ndarray | Figure, caption: str) -> str:
    """A figure with the image in it, scaled down where it is wide; '' if it cannot be read."""
    if isinstance(image, Figure):
        drawn = io.BytesIO()
        image.savefig(drawn, dpi=80)
        image = Image.open(drawn).convert('RGB')
    elif isinstance(image, Path):
        image = opened(image)
    else:
        image = Image.fromarray(image)
    if image is None:
        return ''
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


def table(
    head: list[str],
    body: list[list[str]],
    bold: Iterable[tuple[int, int]] = (),
    texts: int = 1,
) -> str:
    """A table that scrolls by itself where the window is narrow; its first column stays.

    Args:
        head: Headings.
        body: Rows.
        bold: (row, column) of the cells that stand out.
        texts: How many columns, from the left, are texts; the others are numbers.
    """
    bold = set(bold)

    def cell(tag: str, column: int, text: str, row: int = -1) -> str:
        text = html.escape(text)
        text = f'<b>{text}</b>' if (row, column) in bold else text
        kind = ' class="text"' if column < texts else ''
        return f'<{tag}{kind}>{text}</{tag}>'

    lines = ['<tr>' + ''.join(cell('th', i, text) for i, text in enumerate(head)) + '</tr>']
    for row, line in enumerate(body):
        cells = (cell('td', i, text, row) for i, text in enumerate(line))
        lines.append('<tr>' + ''.join(cells) + '</tr>')
    return '<div class="wide"><table>' + '\n'.join(lines) + '</table></div>'


def note(text: str) -> str:
    """A small paragraph."""
    return f'<p class="note">{html.escape(text)}</p>'
