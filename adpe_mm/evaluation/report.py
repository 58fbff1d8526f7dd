"""One HTML file of what trainings have left so far, which needs nothing beside it."""

import html
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from adpe_mm.errors import MissingFile

from . import html_parts as parts
from .curves import plot_curves, plot_probes, read_probes, read_scalars
from .drawing import epochs_sheet
from .probes.texts import NAMES
from .runs import Run, duration, find_runs
from .tables import LABELS, Table, grid, read_results, tables

# Scalars that are shown where a run logged them.
CURVES = ('loss', 'accuracy/top1', 'mIoU', 'coco/bbox_mAP', 'coco/segm_mAP')
EPOCHS = 5  # whose reconstructions are set side by side
# What a page is made of: when one of these has changed, it is out of date.
SOURCES = ('*/vis_data/scalars.json', 'probes.jsonl', 'test_*.json', '*.png')


def make_report(root: Path, title: str, published: list[dict], refresh: int | None = None) -> str:
    """The whole page.

    A figure and a few sentences come first, then results on one's own data, the course of the
    trainings, published figures for those public data sets that were tested on, and versions.

    Args:
        root: Folder of the runs.
        title: Of the page.
        published: Figures to compare with, of `load_paper`.
        refresh: Seconds after which a browser loads the page anew; None for never.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a result in it is none of `tools/test.py`.
    """
    results = read_results([root])
    runs = find_runs(root)
    paper, *own = (table.measured for table in tables(results, published))
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ''
    page = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f'<title>{html.escape(title)}</title><style>{parts.STYLE}</style></head><body>',
        f'<h1>{html.escape(title)}</h1><div class="lead">',
        *(f'<p>{html.escape(sentence)}</p>' for sentence in sentences(runs, own)),
        *first_image(root, runs),
        '</div>',
    ]
    sections = [(table.title, shown(table)) for table in own]
    sections += [
        ('Frozen features, while it trains', probes(runs)),
        ('Reconstructions', reconstructions(root, runs)),
        ('The adversary', adversary(runs)),
        ('Curves', curves(runs)),
        ('Speed', speed(runs)),
        ('Predictions', predictions(root)),
        ('Results by class', by_class(results)),
        ('Published, and measured here', shown(paper)),
        ('Made with', versions(results)),
    ]
    for name, section in sections:
        content = list(section)
        if content:
            page += [f'<h2>{html.escape(name)}</h2>', *content]
    return '\n'.join((*page, '</body></html>\n'))


def write_report(path: Path, page: str) -> None:
    """Replace the page at once, so that nobody reads half of one."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    unfinished.write_text(page, encoding='utf-8')
    unfinished.replace(path)


def state(root: Path) -> dict[Path, int]:
    """When each file that a page is made of was changed, in ns."""
    found = {}
    for path in (path for pattern in SOURCES for path in root.rglob(pattern)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # since it was listed
            continue
    return found


def summary(root: Path) -> list[str]:
    """The sentences that the page begins with."""
    return [*sentences(find_runs(root), tables(read_results([root]), [])[1:])]


def sentences(runs: list[Run], own: list[Table]) -> Iterator[str]:
    """What is trained, how far it is, and what it is worth.

    Args:
        runs: All; of the trainings of tasks only the last is named, if there is no pretraining.
        own: Tables of data sets of one's own.
    """
    begun = [run for run in runs if run.progress]
    if not begun:
        yield 'Nothing has been logged yet.'
    for run in [run for run in begun if run.is_pretraining] or begun[-1:]:
        yield f'{run.method}, {run.name}: {how_far(run)}.'
        yield from features(run)
    for table in own:
        yield from (f'{sentence}.' for sentence in table.worth())


def how_far(run: Run) -> str:
    """Such as 'epoch 8 of 16, 3 min left at 15:20, 340 images per second'."""
    now = run.progress
    done = int(np.ceil(now.done))
    if now.complete:
        text = f'complete, {now.total} {now.unit}s'
    else:
        left = f'{duration(now.left)} left at {now.date:%H:%M on %d %B %Y}'
        text = f'{now.unit} {done} of {now.total}, {left}'
    return text + (f', {now.speed:.0f} images per second' if now.speed else '')


def features(run: Run) -> Iterator[str]:
    """What the probe that tells most said first and last."""
    found = read_probes(run.folder)
    for probe in ('attentive', 'linear', 'knn'):
        values = found.get(f'probe/{probe}')
        if values is not None:
            (_, first), (epoch, last) = values[0], values[-1]
            text = f'Its frozen features by the {NAMES[probe]} probe: {first:.1f} % untrained'
            yield text + (f', {last:.1f} % after epoch {epoch:.0f}.' if epoch else '.')
            return


def scalars_of(run: Run) -> dict[str, np.ndarray]:
    """What a run logged; nothing before its first entry."""
    try:
        return read_scalars(run.folder)
    except MissingFile:
        return {}


def images_of(run: Run, name: str) -> dict[int, Path]:
    """What the visualizer of a run wrote under a name, by epoch."""
    found = {}
    for path in sorted(run.folder.rglob(f'vis_image/{name}_*.png')):
        number = path.stem.rpartition('_')[2]
        if number.isdigit():
            found[int(number)] = path
    return dict(sorted(found.items()))


def some(found: dict[int, Path], limit: int = EPOCHS) -> dict[int, Path]:
    """At most so many, spread over all, with the last."""
    keys = list(found)
    chosen = np.linspace(len(keys) - 1, 0, min(limit, len(keys))).round().astype(int)
    return {keys[i]: found[keys[i]] for i in sorted(chosen)}


def through_epochs(run: Run, crops: int) -> np.ndarray | None:
    """Reconstructions of several epochs side by side."""
    images = {e: parts.opened(p) for e, p in some(images_of(run, 'reconstruction')).items()}
    sheets = {epoch: np.asarray(image) for epoch, image in images.items() if image}
    return epochs_sheet(sheets, crops)


def first_image(root: Path, runs: list[Run]) -> Iterator[str]:
    """Two crops through the epochs of the last pretraining, or a prediction."""
    for run in reversed(runs):
        found = through_epochs(run, crops=2)
        if found is not None:
            yield parts.figure(found, f'What {run.name} makes of the patches that it does not see')
            return
    drawn = sorted(root.rglob('predictions/drawn/**/*.png'))
    if drawn:
        yield parts.figure(drawn[0], str(drawn[0].relative_to(root)))


def shown(table: Table) -> Iterator[str]:
    """A table of results, the best of each column in bold."""
    if table.cells:
        head, body, notes = grid(table)
        yield parts.note(
            'Published [source] / measured here (difference)'
            if table.with_paper
            else 'Percent; mean ± standard deviation (runs); the best of each column in bold'
        )
        yield parts.table(head, body, () if table.with_paper else table.best, LABELS)
        yield from map(parts.note, notes)


def probes(runs: list[Run]) -> Iterator[str]:
    """Probes of each pretraining, over its epochs."""
    for run in runs:
        found = read_probes(run.folder)
        if found:
            yield parts.figure(plot_probes(found), f'{run.name}: frozen features')


def reconstructions(root: Path, runs: list[Run]) -> Iterator[str]:
    """The epochs of each pretraining, and the sheets of reconstruct.py."""
    for run in runs:
        found = through_epochs(run, crops=6)
        if found is not None:
            yield parts.figure(found, f'{run.name}: the same crops and masks after several epochs')
    for path in sorted(root.glob('reconstructions/reconstruction*.png')):
        yield f'<details><summary>{html.escape(path.name)}</summary>'
        yield parts.figure(path, 'By tools/visualizations/reconstruct.py') + '</details>'


def adversary(runs: list[Run]) -> Iterator[str]:
    """Where it moves positions, and its size over the iterations."""
    for run in runs:
        scalars = scalars_of(run)
        if 'adversary/size' not in scalars:
            continue
        curve = plot_curves({run.name: scalars}, ['adversary/size'])
        yield '<div class="row">' + parts.figure(curve, f'{run.name}: its size, by iterations')
        for epoch, path in some(images_of(run, 'adversary'), 3).items():
            yield parts.figure(path, f'{run.name}, after epoch {epoch}')
        yield '</div>'


def curves(runs: list[Run]) -> Iterator[str]:
    """What was logged; runs of one kind, such as cls_seed0 of several networks, together."""
    kinds: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for run in runs:
        name = run.folder.name
        label = run.name.removesuffix(f'/{name}')
        kinds.setdefault(name, {})[label] = scalars_of(run)
    figures = []
    for name, logged in kinds.items():
        keys = [
            key  # a single value is no curve
            for key in CURVES
            if any(len(scalars.get(key, ())) > 1 for scalars in logged.values())
        ]
        if keys:
            figures.append(parts.figure(plot_curves(logged, keys), name))
    if figures:
        yield from ('<div class="row">', *figures, '</div>')


def speed(runs: list[Run]) -> Iterator[str]:
    """How fast each run is, and what is left of it."""
    head = ['run', 'at', 'of', '', 's per iteration', 'waiting for images', 'images per s', 'left']
    body = []
    for run in runs:
        now = run.progress
        if now is not None:
            images = f'{now.speed:.0f}' if now.speed else ''
            waiting = f'{100 * now.waiting / now.seconds:.0f} %' if now.seconds else ''
            body.append(
                [run.name, f'{now.done:.4g}', str(now.total), f'{now.unit}s']
                + [f'{now.seconds:.3g}', waiting, images, duration(now.left)]
            )
    if body:
        yield parts.table(head, body)


def predictions(root: Path, limit: int = 6) -> Iterator[str]:
    """Some images of each run."""
    for folder in sorted(root.rglob('predictions')):
        drawn = sorted(folder.glob('drawn/**/*.png'))
        if drawn:
            yield f'<h3>{html.escape(str(folder.parent.relative_to(root)))}</h3>'
            yield '<div class="row small">'
            yield from (parts.figure(path, path.stem) for path in drawn[:limit])
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
        yield parts.table(['class', *measures], body) + '</details>'


def versions(results: list[dict]) -> Iterator[str]:
    """Of the last test, and when the page was written."""
    texts = [f'Written {datetime.now():%Y-%m-%d %H:%M}']
    if results:
        last = max(results, key=lambda result: result['date'])
        texts.append(last['device'])
        texts += [f'{name} {version}' for name, version in last['versions'].items()]
    yield parts.note(', '.join(texts))
