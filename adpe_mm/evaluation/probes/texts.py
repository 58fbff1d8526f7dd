"""Results of probes as texts: a line of the log, scalars of TensorBoard, tables."""

from .prober import PROBES

RECORDS = 'probes.jsonl'  # in the folder of a run's log, a line for each probe
NAMES = dict(knn='k-NN', linear='linear', attentive='attentive')
CURVES = (*PROBES, 'effective_rank', 'largest_norm', 'attention_distance', 'token_norm')


def summary(results: dict, epoch: int) -> str:
    """One line for the log of a training."""
    found = ', '.join(f'{NAMES[p]} {results[p]:.1f} %' for p in PROBES if p in results)
    first, last = results['attention_distance'][0], results['attention_distance'][-1]
    return (
        f'probe after epoch {epoch}: {found} of {results["num_val"]} images, '
        f'{results["num_classes"]} classes; effective rank {results["effective_rank"]:.1f} of '
        f'{results["embed_dims"]}; attention reaches {first:.1f} px in the first block, {last:.1f} '
        f'in the last; norm of a patch {results["token_norm"][-1]:.1f} (largest '
        f'{results["largest_norm"]:.1f} times that)'
    )


def scalars(results: dict) -> dict[str, float]:
    """Curves by name: of each block one, where there is a list."""
    found = {}
    for name in CURVES:
        value = results.get(name)
        if isinstance(value, list):
            found.update({f'probe/{name}/block_{i:02}': x for i, x in enumerate(value)})
        elif value is not None:
            found[f'probe/{name}'] = value
    return found


def format_probes(rows: dict[str, dict]) -> str:
    """A table of several networks, and one of their blocks.

    Args:
        rows: Results of `Prober` by the name of the network, with those of `segmentation_probe`
            under ``segmentation``; both may be missing.
    """
    head, body = [''], [[name] for name in rows]
    for title, value in (
        *((f'{NAMES[p]} %', lambda r, p=p: r.get(p)) for p in PROBES),
        ('mIoU %', lambda r: r.get('segmentation', {}).get('miou')),
        ('effective rank', lambda r: r.get('effective_rank')),
        ('largest / mean norm', lambda r: r.get('largest_norm')),
    ):
        values = [value(results) for results in rows.values()]
        if any(v is not None for v in values):
            head.append(title)
            for line, v in zip(body, values, strict=True):
                line.append('' if v is None else f'{v:.1f}')
    tables = [aligned([head, *body])]
    for title, name in (
        ('attention distance, px, by block', 'attention_distance'),
        ('mean norm of a patch, by block', 'token_norm'),
    ):
        lines = [[n, *(f'{v:.1f}' for v in r[name])] for n, r in rows.items() if name in r]
        if lines:
            numbers = [str(i) for i in range(max(map(len, lines)) - 1)]
            tables.append(f'{title}\n' + aligned([['', *numbers], *lines]))
    return '\n\n'.join(tables) + '\n'


def aligned(table: list[list[str]]) -> str:
    """Columns beside one another, the first to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)
