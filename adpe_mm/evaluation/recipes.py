"""The numbers of every recipe, read from the configs, beside those of the sources they come from.

``configs/sources.yml`` says what each source states and which configs follow it. What deviates is
found by comparing, and must be named there with a reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from mmengine.config import Config

from adpe_mm.errors import UserError

COLUMNS = (
    'size', 'batch', 'length', 'warm-up', 'lr', 'decay of lr', 'ascent lr', 'optimiser',
    'weight decay', 'betas', 'layer decay', 'drop path', 'mask',
)  # fmt: skip


@dataclass
class Recipe:
    """A config's numbers, where each of them comes from, and what deviates.

    Attributes:
        name: Path of the config below ``configs/``, without its suffix.
        numbers: Of the config, by column.
        sources: By column, the source's file and what it states.
        reasons: By column, why the config deviates from its source, or what a number that has no
            source was chosen by.
    """

    name: str
    numbers: dict[str, str]
    sources: dict[str, tuple[str, str]]
    reasons: dict[str, str]

    @property
    def deviating(self) -> list[str]:
        """Columns where the config has another number than its source."""
        return [
            key
            for key, (_, stated) in self.sources.items()
            if not _agree(self.numbers.get(key), stated)
        ]

    @property
    def unsourced(self) -> list[str]:
        return [key for key in self.numbers if key not in self.sources]


def _agree(ours: str | None, stated: str) -> bool:
    """Whether a number is the stated one, or within a stated range such as '5e-5 to 3e-4'."""
    try:
        limits = [float(limit) for limit in stated.split(' to ')]
        return ours is not None and limits[0] <= float(ours) <= limits[-1]
    except ValueError:  # a text, such as '400 epochs'
        return ours == stated


def numbers(cfg: Config) -> dict[str, str]:
    """What a config trains with, by the names of `COLUMNS`; what does not apply is left out.

    lr is that of the batch in the table, images per optimiser step; lengths are in epochs or
    iterations as the config counts them.
    """
    optimizer, backbone = cfg.optim_wrapper.optimizer, cfg.model.backbone
    paramwise = cfg.optim_wrapper.get('paramwise_cfg') or {}
    by_epoch = 'max_epochs' in cfg.train_cfg
    length = cfg.train_cfg.max_epochs if by_epoch else cfg.train_cfg.max_iters
    unit = 'epochs' if by_epoch else 'iterations'
    found = {
        'size': f'{backbone.img_size} px',
        'batch': str(cfg.auto_scale_lr.base_batch_size),
        'length': f'{length} {unit}',
        'lr': _number(optimizer.lr),
        'optimiser': optimizer.type.rpartition('.')[2],
        'weight decay': _number(optimizer.get('weight_decay', 0)),
    }
    for schedule in cfg.param_scheduler:
        if 'start_factor' in schedule:
            found['warm-up'] = f'{_number(schedule.end * length)} {unit}'
        else:
            found['decay of lr'] = _decay(schedule, optimizer.lr, length)
    if 'betas' in optimizer:
        found['betas'] = ', '.join(map(_number, optimizer.betas))
    if paramwise.get('layer_decay_rate', 1) != 1:
        found['layer decay'] = _number(paramwise['layer_decay_rate'])
    if backbone.get('drop_path_rate'):
        found['drop path'] = _number(backbone.drop_path_rate)
    if 'mask_ratio' in backbone:
        found['mask'] = _number(backbone.mask_ratio)
    if cfg.model.get('adversary'):
        found['ascent lr'] = _number(paramwise.get('ascent', {}).get('lr', optimizer.lr))
    return found


def _decay(schedule: dict, lr: float, length: int) -> str:
    if 'milestones' in schedule:
        steps = ', '.join(str(round(step * length)) for step in schedule.milestones)
        return f'x {_number(schedule.gamma)} at {steps}'
    floor = schedule.get('eta_min_ratio', 0) * lr or schedule.get('eta_min', 0)
    kind = 'cosine' if 'Cosine' in schedule.type else 'linear'
    return f'{kind} to {_number(floor)}'


def _number(value: float) -> str:
    return f'{value:.4g}'.replace('e-0', 'e-') if value < 1e4 else f'{value:.0f}'


def read_recipes(configs: str | Path) -> list[Recipe]:
    """Every recipe that ``sources.yml`` names, with the sources that it follows.

    Args:
        configs: Folder of ``sources.yml`` and of the configs that it names.

    Raises:
        ValueError: If a recipe follows an unknown source, if a pattern fits no config, or two fit
            the same.
    """
    configs = Path(configs)
    table = yaml.safe_load((configs / 'sources.yml').read_text(encoding='utf-8'))
    found: dict[str, Recipe] = {}
    for entry in table['recipes']:
        unknown = set(entry['follows']) - set(table['sources'])
        if unknown:
            raise UserError(f'sources.yml: {entry["configs"]} follows unknown {sorted(unknown)}')
        sources = {
            key: (table['sources'][source]['file'], str(value))
            for source in entry['follows']  # the last that states a number counts
            for key, value in table['sources'][source]['states'].items()
        }
        for pattern in entry['configs']:
            paths = sorted(configs.glob(f'{pattern}.py'))
            if not paths:
                raise UserError(f"sources.yml: no config fits '{pattern}'")
            for path in paths:
                name = path.relative_to(configs).with_suffix('').as_posix()
                if name in found:
                    raise UserError(f"sources.yml names '{name}' twice")
                cfg = numbers(Config.fromfile(path))
                found[name] = Recipe(name, cfg, sources, entry.get('because', {}))
    return sorted(found.values(), key=lambda recipe: recipe.name)


def to_markdown(recipes: list[Recipe]) -> str:
    """One table per task; a number names its source, in bold where that states another."""
    return '\n'.join(_lines(recipes)).rstrip() + '\n'


def _lines(recipes: list[Recipe]) -> Iterator[str]:
    tasks = dict.fromkeys(recipe.name.partition('/')[0] for recipe in recipes)
    for task in sorted(tasks, key=['pretrain', 'cls', 'seg', 'det'].index):
        rows = [recipe for recipe in recipes if recipe.name.startswith(f'{task}/')]
        used = {key for row in rows for key in (*row.numbers, *row.deviating)}
        columns = [key for key in COLUMNS if key in used]
        files = list(dict.fromkeys(file for row in rows for file, _ in row.sources.values()))
        yield f'## configs/{task}\n'
        yield f'| recipe | {" | ".join(columns)} |'
        yield f'|---|{"---|" * len(columns)}'
        for row in rows:
            cells = [_cell(row, key, files) for key in columns]
            yield f'| [`{_short(row)}`](../configs/{row.name}.py) | {" | ".join(cells)} |'
        yield ''
        yield from (f'[{i}] {file}  ' for i, file in enumerate(files, start=1))
        notes: dict[str, list[str]] = {}
        for row in rows:
            for key in (*row.deviating, *row.unsourced):
                stated = f'{row.sources[key][1]} in the source' if key in row.sources else 'ours'
                note = f'**{key}**, {stated}: {row.reasons.get(key, "")}'
                notes.setdefault(note, []).append(f'`{_short(row)}`')
        if notes:
            yield ''
            yield from (f'- {note} ({", ".join(names)})' for note, names in notes.items())
        yield ''


def _short(recipe: Recipe) -> str:
    return recipe.name.partition('/')[2]


def _cell(recipe: Recipe, key: str, files: list[str]) -> str:
    text = recipe.numbers.get(key, '')
    if key in recipe.deviating:
        text = f'**{text or "none"}**'
    if key in recipe.sources and text:
        text += f' [{files.index(recipe.sources[key][0]) + 1}]'
    return text
