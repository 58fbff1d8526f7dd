"""What fits into which GPU: the table of docs/memory.md, and the budgets that tests keep."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config

from adpe_mm.launch import read_config

from .memory import Memory, count_memory, imagined

SIZES = (24, 40, 80)  # GB
SHARDS = 8


@dataclass
class Fit:
    """What a config's training holds in a GPU.

    Attributes:
        config: Path below ``configs/``, without its suffix.
        same: Other configs that hold the same.
        plain: As the config says.
        checkpointed: With ``model.backbone.with_cp=True``.
    """

    config: str
    same: list[str]
    plain: Memory
    checkpointed: Memory


def short_name(path: Path) -> str:
    return '/'.join(path.with_suffix('').parts[-2:])


def key_of(cfg: Config) -> str:
    """What a training's memory depends on, as text."""
    model = copy.deepcopy(cfg.model)
    model.backbone.pop('init_cfg', None)
    hooks = [hook.get('type') for hook in cfg.default_hooks.values() if hook]
    pipeline = cfg.train_dataloader.dataset.get('pipeline')
    what = [model, cfg.train_dataloader.batch_size, pipeline, hooks, cfg.get('sharding')]
    optimizer = cfg.optim_wrapper.optimizer.type
    return json.dumps([*what, cfg.optim_wrapper.get('dtype'), optimizer], default=str)


def read_configs(paths: list[Path]) -> Iterator[tuple[str, list[str], Config]]:
    """Configs that differ in what they hold: name, names of those that hold the same, config."""
    groups: dict[str, list[Path]] = {}
    configs = {path: read_config(path) for path in paths}
    for path, cfg in configs.items():
        groups.setdefault(key_of(cfg), []).append(path)
    for group in groups.values():
        first, *others = sorted(group, key=lambda path: (len(path.stem), path))
        yield short_name(first), [short_name(other) for other in others], configs[first]


def fit_all(paths: list[Path], say: Callable[[str], None] = lambda name: None) -> list[Fit]:
    """Count the memory of configs; those that hold the same, once."""
    fits = []
    for name, same, cfg in read_configs(paths):
        say(name)
        with imagined(cfg) as model:
            plain = count_memory(cfg, model, SHARDS)
            cfg.model.backbone.with_cp = model.backbone.with_cp = True
            fits.append(Fit(name, same, plain, count_memory(cfg, model, SHARDS)))
    return fits


def write_fits(fits: list[Fit], path: Path) -> None:
    path.write_text(json.dumps([asdict(fit) for fit in fits], indent=1) + '\n', encoding='utf-8')


def read_fits(path: Path) -> list[Fit]:
    """Read what `write_fits` wrote."""
    return [
        Fit(**dict(row, plain=Memory(**row['plain']), checkpointed=Memory(**row['checkpointed'])))
        for row in json.loads(path.read_text(encoding='utf-8'))
    ]


def to_markdown(fits: list[Fit]) -> str:
    """The table: what a GPU holds at the config's batch, and the largest batches."""
    sizes = ' / '.join(map(str, SIZES))
    lines = [
        f'| config | images | state | kept | largest batch in {sizes} GB | with `with_cp` | '
        f'and sharded over {SHARDS} |',
        '|---|---|---|---|---|---|---|',
    ]
    for fit in fits:
        sharded = Memory(**dict(asdict(fit.checkpointed), shards=SHARDS))
        batches = (_batches(memory) for memory in (fit.plain, fit.checkpointed, sharded))
        lines.append(
            f'| `{fit.config}` | {fit.plain.images} | {fit.plain.state / 1e9:.1f} | '
            f'{fit.plain.activations / 1e9:.1f} | {" | ".join(batches)} |'
        )
    return '\n'.join(lines) + '\n'


def _batches(memory: Memory) -> str:
    found = [memory.largest_batch(size) for size in SIZES]
    return ' / '.join('any' if images is None else str(images) for images in found)
