"""The transfer table: what was measured beside what the papers published."""

import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from adpe_mm.errors import MissingFile, UserError

from .results import FORMAT

PUBLIC = {'ImageNet-1K': 'cls', 'ADE20K': 'seg', 'COCO': 'det'}
TASKS = {'cls': 'ImageNet', 'seg': 'ADE20K', 'det': 'COCO'}
NAMES = {'cls': 'Classification', 'seg': 'Segmentation', 'det': 'Detection'}
# Metric of a test file: its name in the table, and what makes it percent.
METRICS = {
    'accuracy/top1': ('top-1', 1),
    'mIoU': ('mIoU', 1),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP': ('mask AP', 100),
}
METHODS = ('scratch', 'MAE', 'MAE+', 'AdPE')  # first in this order; all others by name
NOT_RUN = 'not run'
MEASURED = 'Measured on '  # begins the title of a table without published figures
LABELS = 3  # columns of a row's name
# Image size of each task (px) and epochs of detection, where a row does not say another.
SIZES = {'cls': 224, 'seg': 512, 'det': 1024}
DETECTION_EPOCHS = 100
CSV_COLUMNS = ('table', 'pretraining', 'variant', 'backbone', 'task', 'detector', 'metric')
CSV_COLUMNS += ('published', 'source', 'measured', 'std', 'runs', 'difference')


@dataclass
class Cell:
    """One figure of a table, in percent."""

    published: float | None = None
    source: str = ''
    measured: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.measured) if self.measured else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over runs."""
        return statistics.stdev(self.measured) if len(self.measured) > 1 else None

    @property
    def difference(self) -> float | None:
        both = self.measured and self.published is not None
        return self.mean - self.published if both else None


@dataclass
class Table:
    """Cells by row and column; each is a tuple of texts."""

    title: str
    with_paper: bool
    cells: dict[tuple[tuple[str, ...], tuple[str, ...]], Cell] = field(
        default_factory=lambda: defaultdict(Cell)
    )

    @property
    def rows(self) -> list[tuple[str, ...]]:
        def order(row):
            known = METHODS.index(row[0]) if row[0] in METHODS else len(METHODS)
            return row[2], known, row

        return sorted({row for row, _ in self.cells}, key=order)

    @property
    def columns(self) -> list[tuple[str, ...]]:
        metrics = [name for name, _ in METRICS.values()]
        return sorted(
            {column for _, column in self.cells},
            key=lambda c: (
                list(TASKS).index(c[0]),
                c[1] != 'Mask R-CNN',
                c[1],
                metrics.index(c[2]),
            ),
        )

    @property
    def measured(self) -> 'Table':
        """The columns in which something was measured, and the rows that have a figure there."""
        columns = {column for (_, column), cell in self.cells.items() if cell.measured}
        part = Table(self.title, self.with_paper)
        for (row, column), cell in self.cells.items():
            if column in columns and (cell.measured or cell.published is not None):
                part.cells[row, column] = cell
        return part

    @property
    def best(self) -> set[tuple[int, int]]:
        """Row and column of `grid` of the highest mean in each column that has several."""
        found = set()
        for j, column in enumerate(self.columns, start=LABELS):
            cells = (self.cells.get((row, column), Cell()) for row in self.rows)
            means = {i: cell.mean for i, cell in enumerate(cells) if cell.measured}
            if len(means) > 1:
                found |= {(i, j) for i, mean in means.items() if mean == max(means.values())}
        return found

    def worth(self) -> Iterator[str]:
        """What pretraining is worth beside the network from scratch: a sentence for each column."""
        for column in self.columns:
            pretrained, scratch = [], []
            for row in self.rows:
                mean = self.cells.get((row, column), Cell()).mean
                if mean is not None and row[0] == 'scratch':
                    scratch.append(f'{mean:.1f}')
                elif mean is not None:
                    pretrained.append(f'{mean:.1f} ({" ".join(filter(None, row[:2]))})')
            if pretrained and scratch:
                yield (
                    f'{NAMES[column[0]]} of {self.title.removeprefix(MEASURED)}, '
                    f'{heading(column, False)}: pretrained {", ".join(pretrained)}, '
                    f'from scratch {", ".join(scratch)}'
                )


def read_results(folders: Iterable[str | Path]) -> list[dict]:
    """Results of tests below some folders: of each folder and kind of test the latest.

    A checkpoint that was tested in several folders counts once.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a file is not what tools/test.py writes.
    """
    latest: dict[tuple, dict] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise MissingFile(f"there is no folder '{folder}'")
        for path in sorted(folder.rglob('test_*.json')):
            try:
                result = json.loads(path.read_text(encoding='utf-8'))
                if result['format'] != FORMAT:
                    raise KeyError
                key = path.parent.resolve(), result['tta']
                if key not in latest or result['date'] > latest[key]['date']:
                    latest[key] = result
            except (json.JSONDecodeError, KeyError, TypeError):
                raise UserError(
                    f"'{path}' is no result of tools/test.py: remove it, or test again"
                ) from None
    once = {}
    for result in sorted(latest.values(), key=lambda result: result['date']):
        of_checkpoint = result['checkpoint_sha256'] or id(result)
        once[of_checkpoint, result['tta'], result['dataset']] = result
    return list(once.values())


def tables(results: list[dict], paper: list[dict]) -> list[Table]:
    """The paper's table, and one for each other data set that was tested on."""
    public = Table('Transfer: published and measured', with_paper=True)
    for figure in paper:
        row = figure['method'], figure.get('variant') or '', network(figure, with_paper=True)
        cell = public.cells[row, (figure['task'], figure.get('detector', ''), figure['metric'])]
        cell.published, cell.source = figure['value'], figure['source']
        for remark in ('derived', 'note'):
            if remark in figure:
                cell.source += f' ({figure[remark]})'
    for backbone in {figure['backbone'] for figure in paper}:
        for variant in ('APE', 'RPE'):  # a row that is never published, and worth having
            public.cells[('scratch', variant, backbone), ('cls', '', 'top-1')] = Cell()
    other: dict[str, Table] = {}
    for result in results:
        task, dataset = result['task'], result['dataset']
        table = public
        if PUBLIC.get(dataset) != task:
            table = other.setdefault(dataset, Table(MEASURED + dataset, with_paper=False))
        pretraining = result['pretraining']
        variant = pretraining['variant'] or (
            result['position'] if pretraining['method'] == 'scratch' else ''
        )
        head = result['head'] if task == 'det' else ''
        for name, value in result['metrics'].items():
            if name in METRICS and value is not None:
                metric, factor = METRICS[name]
                row = pretraining['method'], variant, network(result, table.with_paper)
                cell = table.cells[row, (task, head, metric)]
                cell.measured.append(factor * value)
    return [public, *(other[name] for name in sorted(other))]


def network(figure: dict, with_paper: bool) -> str:
    """The backbone, and all by which a result is not comparable with the others of its task.

    Args:
        figure: A published figure or a result of a test.
        with_paper: Of the public data sets, where sizes and lengths have a standard.
    """
    task = figure['task']
    kinds = [figure['backbone']]
    if with_paper and figure.get('size') and figure['size'] != SIZES[task]:
        kinds.append(f'{figure["size"]} px')
    epochs = figure.get('task_epochs') or DETECTION_EPOCHS
    if with_paper and task == 'det' and epochs != DETECTION_EPOCHS:
        kinds.append(f'{epochs} epochs')
    if figure.get('bias'):
        kinds.append("BEiT's bias")
    if figure.get('protocol', 'fine-tuning') != 'fine-tuning':
        kinds.append(figure['protocol'])
    if figure.get('tta'):
        kinds.append('TTA')
    return ', '.join(kinds)


def load_paper(path: str | Path) -> list[dict]:
    """The published figures, from a YAML list of them."""
    return yaml.safe_load(Path(path).read_text(encoding='utf-8'))


def heading(column: tuple[str, ...], with_paper: bool) -> str:
    task, head, metric = column
    data = TASKS[task] if with_paper else ''
    return ' '.join(filter(None, (data, metric, f'({head})' if head else '')))


def decimals(value: float) -> str:
    """One decimal, or two where they were published."""
    return f'{value:.1f}' if round(value, 1) == value else f'{value:.2f}'


def measured_text(cell: Cell) -> str:
    """Mean, spread and number of runs, or 'not run'."""
    if not cell.measured:
        return NOT_RUN
    if cell.spread is None:
        return f'{cell.mean:.1f}'
    return f'{cell.mean:.1f} ± {cell.spread:.1f} ({len(cell.measured)})'


def grid(table: Table) -> tuple[list[str], list[list[str]], list[str]]:
    """A table as texts: headings, rows, and the sources as notes."""
    notes: list[str] = []
    head = ['pretraining', 'variant', 'backbone']
    head += [heading(column, table.with_paper) for column in table.columns]
    body = []
    for row in table.rows:
        line = list(row)
        for column in table.columns:
            cell = table.cells.get((row, column), Cell())
            if not table.with_paper:
                line.append(measured_text(cell))
                continue
            text = measured_text(cell)
            if cell.published is not None:
                if cell.source not in notes:
                    notes.append(cell.source)
                text = f'{decimals(cell.published)} [{notes.index(cell.source) + 1}] / {text}'
            if cell.difference is not None:
                text += f' ({cell.difference:+.1f})'
            line.append(text)
        body.append(line)
    return head, body, [f'[{i}] {note}' for i, note in enumerate(notes, start=1)]


def to_markdown(all_tables: list[Table]) -> str:
    """All tables, with their notes."""
    parts = []
    for table in all_tables:
        head, body, notes = grid(table)
        lines = [f'## {table.title}', '']
        if table.with_paper:
            lines += ['Published [source] / measured here (difference).', '']
        else:
            lines += ['Mean ± sample standard deviation (number of runs), in percent.', '']
            for row, column in table.best:
                body[row][column] = f'**{body[row][column]}**'
        lines += [f'| {" | ".join(head)} |', f'|{"---|" * len(head)}']
        lines += [f'| {" | ".join(line)} |' for line in body]
        lines += ['', *notes] if notes else []
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts) + '\n'


def to_csv(all_tables: list[Table], path: str | Path) -> None:
    """One line a figure."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for table in all_tables:
            for row in table.rows:
                for column in table.columns:
                    cell = table.cells.get((row, column))
                    if cell is None:
                        continue
                    values = [cell.published, cell.source, cell.mean, cell.spread]
                    values += [len(cell.measured), cell.difference]
                    values = [round(v, 3) if isinstance(v, float) else v for v in values]
                    if not cell.measured:
                        values[2] = NOT_RUN
                    writer.writerow([table.title, *row, *column, *values])


def plot_tables(all_tables: list[Table]) -> Figure:
    """The tables as an image."""
    grids = [(table.title, *grid(table)) for table in all_tables]
    heights = [len(body) + 2 + len(notes) for _, _, body, notes in grids]
    columns = max(len(head) for _, head, _, _ in grids)
    figure = Figure(figsize=(2.3 * columns, 0.3 * sum(heights) + 0.5), layout='constrained')
    axes = figure.subplots(len(grids), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, head, body, notes) in zip(axes, grids, strict=True):
        ax.axis('off')
        ax.set_title(title, fontsize=10, loc='left')
        shown = ax.table(cellText=body, colLabels=head, loc='upper left', cellLoc='left')
        shown.auto_set_font_size(False)
        shown.set_fontsize(7)
        shown.auto_set_column_width(range(len(head)))
        ax.text(0, 0, '\n'.join(notes), fontsize=6, va='bottom', transform=ax.transAxes)
    return figure


def write_tables(all_tables: list[Table], out: Path) -> str:
    """Write ``transfer_table.md``, ``.csv`` and ``.png`` into a folder; returns the first."""
    text = to_markdown(all_tables)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'transfer_table.md').write_text(text, encoding='utf-8')
    to_csv(all_tables, out / 'transfer_table.csv')
    plot_tables(all_tables).savefig(out / 'transfer_table.png', dpi=110)
    return text
