"""Which probe to believe: its rank correlation with what fine-tuning reaches."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from adpe_mm.errors import UserError

from ..tables import METRICS, read_results
from .prober import PROBES
from .texts import NAMES

DESCRIPTIONS = {
    'effective_rank': 'effective rank',
    'largest_norm': 'largest / mean norm',
}


def ranks(values: list[float]) -> np.ndarray:
    """Ranks from 1 on; equal values share the mean of theirs."""
    values = np.asarray(values)
    below = (values[:, None] > values).sum(axis=1)
    alike = (values[:, None] == values).sum(axis=1)
    return below + (alike + 1) / 2


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's: the linear correlation of the ranks; NaN where all of one are equal."""
    deviations = [ranks(x) - (len(x) + 1) / 2 for x in (a, b)]
    lengths = [np.sqrt(np.square(x).sum()) for x in deviations]
    if not all(lengths):
        return float('nan')
    return float((deviations[0] * deviations[1]).sum() / (lengths[0] * lengths[1]))


def fine_tuned(folder: str | Path) -> dict[str, dict]:
    """What each network was worth after fine-tuning, from the results of a benchmark.

    Args:
        folder: Of ``tools/benchmarks/transfer.py``: with a folder for each network, in which the
            tests of its tasks are.

    Returns:
        By the name of the network ``checkpoint``, of the pretraining; ``tested``, a checkpoint of
        a task, where there was none (from scratch); and ``metrics``, in percent, the mean of the
        seeds.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has results of fewer than three networks.
    """
    found = {}
    for entry in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        results = read_results([entry])
        if not results:
            continue
        values = defaultdict(list)
        for result in results:
            for name, value in result['metrics'].items():
                if name in METRICS:
                    metric, factor = METRICS[name]
                    values[metric].append(factor * value)
        found[entry.name] = dict(
            checkpoint=results[0]['pretraining']['checkpoint'],
            tested=results[0]['checkpoint'],
            metrics={name: float(np.mean(of_seeds)) for name, of_seeds in values.items()},
        )
    if len(found) < 3:
        raise UserError(
            f"'{folder}' has results of {len(found)} networks, and a rank correlation needs three: "
            'run tools/benchmarks/mini.sh first, with more ENTRIES'
        )
    return found


def correlate(networks: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Rank correlation of each probe with each metric of fine-tuning.

    Args:
        networks: By name ``metrics``, see `fine_tuned`, and ``probes``, of `Prober`.

    Returns:
        By probe and metric; a metric that a network lacks is taken over the others.
    """
    metrics = sorted({name for network in networks.values() for name in network['metrics']})
    table = {}
    for probe in (*PROBES, *DESCRIPTIONS):
        table[probe] = {}
        for metric in metrics:
            pairs = [
                (network['probes'][probe], network['metrics'][metric])
                for network in networks.values()
                if metric in network['metrics'] and probe in network['probes']
            ]
            if len(pairs) > 2:
                table[probe][metric] = rank_correlation(*zip(*pairs, strict=True))
    return table


def markdown(networks: dict[str, dict]) -> str:
    """Both tables: what each network has, and the correlations."""
    probes = {name: NAMES.get(name, DESCRIPTIONS.get(name)) for name in (*PROBES, *DESCRIPTIONS)}
    metrics = sorted({name for network in networks.values() for name in network['metrics']})
    head = ['network', *probes.values(), *(f'fine-tuned: {metric}' for metric in metrics)]
    body = []
    for name, network in networks.items():
        values = [network['probes'].get(probe) for probe in probes]
        values += [network['metrics'].get(metric) for metric in metrics]
        body.append([name, *('' if v is None else f'{v:.1f}' for v in values)])
    parts = [_rows(head, body)]
    head = ['rank correlation with', *metrics]
    body = [
        [probes[probe], *(f'{values[m]:+.2f}' if m in values else '' for m in metrics)]
        for probe, values in correlate(networks).items()
    ]
    parts.append(_rows(head, body))
    return '\n\n'.join(parts) + '\n'


def _rows(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ['---'] * len(head), *body]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_correlation(networks: dict[str, dict], out: Path) -> str:
    """Write ``probe_correlation.md`` and ``.json`` into a folder; returns the first."""
    text = markdown(networks)
    (out / 'probe_correlation.md').write_text(text, encoding='utf-8')
    found = dict(networks=networks, correlation=correlate(networks))
    (out / 'probe_correlation.json').write_text(json.dumps(found, indent=2) + '\n', 'utf-8')
    return text
