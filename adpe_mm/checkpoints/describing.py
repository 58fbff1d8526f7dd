"""What a checkpoint is of, told by what it says of itself, else by its config and its arrays."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from adpe_mm.errors import UserError

from .lookups import find_lookup, has_irpe
from .reading import file_hash, find_weights, read_checkpoint, read_config

DESCRIPTION = 'adpe_mm'  # Where a checkpoint's ``meta`` has the description.
# What pretraining has; a checkpoint of another task has a head besides.
PRETRAINING = r'(backbone|neck|adversary|data_preprocessor)\..*'
TASKS = {'head': 'classification', 'decode_head': 'segmentation', 'roi_head': 'detection'}
UNKNOWN = dict(method='unknown', variant=None, checkpoint=None, sha256=None)
# Settings of a backbone in a config that no array tells, or not always.
_SETTINGS = (
    'arch', 'img_size', 'pretrain_img_size', 'patch_size', 'rpe_scaled_query', 'window_size',
    'global_blocks', 'decomposed_rpe', 'rel_pos_bias', 'interpolate_mode',
)  # fmt: skip


def describe(source: str | Path | dict) -> dict:
    """What a checkpoint of ours is, as plain data.

    Args:
        source: Its path or address, or what `read_checkpoint` returns.

    Returns:
        - ``task``: 'pretraining', 'classification', 'segmentation' or 'detection'.
        - ``method`` and ``variant`` of the pretraining: see `describe_pretraining`; ``method`` is
          'scratch' for a task without, 'unknown' where nothing tells it.
        - ``pretraining``: of a task, these two with ``checkpoint`` and ``sha256`` of the file that
          it began from; None of a pretraining.
        - ``arch``: name or sizes, see `AdPEViT`; ``embed_dims``, ``num_layers``, ``num_heads``
          (None where a name or nothing tells it), ``patch_size`` and ``img_size`` in pixels,
          ``in_channels``, the bands of an image.
        - ``position``: 'ape' or 'rpe'.
        - ``rpe_lookup``: None without iRPE, or where nothing tells it.
        - ``epochs`` and ``iterations`` trained, and ``version`` of adpe_mm; None if not known.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds no network with a backbone like ours.
    """
    checkpoint, path = source, 'the checkpoint'
    if not isinstance(source, dict):
        checkpoint, path = read_checkpoint(source), source
    meta = checkpoint.get('meta') or {}
    if DESCRIPTION in meta:
        return meta[DESCRIPTION]
    weights = find_weights(checkpoint, path)
    if not has_backbone(weights):
        raise UserError(
            f"'{path}' holds no network with a backbone of adpe_mm: if it is of MAE or of the "
            'official AdPE code, convert it first with tools/model_converters'
        )
    backbone = infer_backbone(weights, read_config(checkpoint))
    arch = backbone['arch']
    sizes = _sizes(weights) | (arch if isinstance(arch, dict) else {})
    pretraining = None
    origin = describe_pretraining(weights)
    if not is_pretraining(weights):
        origin = pretraining = pretraining_of(checkpoint)
    described = dict(
        task=_task(weights),
        method=origin['method'],
        variant=origin['variant'],
        pretraining=pretraining,
        arch=arch,
        embed_dims=sizes['embed_dims'],
        num_layers=sizes['num_layers'],
        num_heads=sizes['num_heads'],
        patch_size=backbone['patch_size'],
        img_size=backbone['img_size'],
        in_channels=backbone['in_channels'],
        position=backbone['position'],
        rpe_lookup=backbone['rpe_lookup'],
        epochs=meta.get('epoch'),
        iterations=meta.get('iter'),
        version=None,
    )
    return json.loads(json.dumps(described))  # the same from every format


def add_description(checkpoint: dict, version: str) -> dict:
    """Write the description of a checkpoint into its ``meta``, unless it has one.

    Args:
        checkpoint: With ``state_dict``; it is changed.
        version: Of adpe_mm.

    Returns:
        The checkpoint.
    """
    meta = checkpoint.setdefault('meta', {})
    if DESCRIPTION not in meta:
        meta[DESCRIPTION] = dict(describe(checkpoint), version=version)
    return checkpoint


def format_description(description: dict) -> str:
    """A description in lines of name and value, without what is not known."""
    method = filter(None, (description['method'], description['variant']))
    name = description['arch'] if isinstance(description['arch'], str) else None
    heads = description['num_heads']
    trained = [
        f'{description[unit]} {unit}' for unit in ('epochs', 'iterations') if description[unit]
    ]
    size, channels = description['img_size'], description.get('in_channels', 3)
    lines = {
        'task': description['task'],
        'method': ', '.join(method),
        'began from': (description['pretraining'] or {}).get('checkpoint'),
        'architecture': (f'ViT-{name.capitalize()}: ' if name else '')
        + f'{description["embed_dims"]} wide, {description["num_layers"]} blocks'
        + (f', {heads} heads' if heads else ''),
        'image size': f'{" x ".join(map(str, size)) if isinstance(size, list) else size} px',
        'patch size': f'{description["patch_size"]} px',
        'bands': channels if channels != 3 else None,
        'positions': description['position'].upper(),
        'look-up': description['rpe_lookup'],
        'trained': ', '.join(trained),
        'adpe_mm': description['version'],
    }
    return '\n'.join(f'{key:<12} {value}' for key, value in lines.items() if value)


def has_backbone(names: Iterable[str]) -> bool:
    """Whether arrays of these names have what every Vision Transformer of ours has."""
    needed = {'backbone.patch_embed.projection.weight', 'backbone.pos_embed'}
    needed.add('backbone.layers.0.ffn.layers.0.0.weight')
    return needed <= set(names)


def is_pretraining(names: Iterable[str]) -> bool:
    """Whether arrays of these names are of pretraining: a backbone, and no head."""
    names = list(names)
    return any(n.startswith('backbone.') for n in names) and all(
        re.fullmatch(PRETRAINING, n) for n in names
    )


def _task(names: Iterable[str]) -> str | None:
    if is_pretraining(names):
        return 'pretraining'
    parts = {name.split('.')[0] for name in names}
    return next((task for part, task in TASKS.items() if part in parts), None)


def describe_pretraining(weights: dict[str, Tensor]) -> dict[str, str | None]:
    """Which row of the paper's table a pretraining checkpoint belongs to, told by its arrays.

    Args:
        weights: A state dict of `MAEPlus`, of mmpretrain's `MAE`, or a converted one.

    Returns:
        ``method``, 'AdPE', 'MAE+' or 'MAE', and ``variant`` such as 'RPE coordinate'; None for
        MAE.
    """
    position = 'RPE' if has_irpe(weights) else 'APE'
    if any(name.startswith('adversary.') for name in weights):
        mode = (infer_adversary(weights) or dict(mode='of its own'))['mode']
        return dict(method='AdPE', variant=f'{position} {mode}')
    if 'backbone.mask_token' in weights:  # it enters the encoder
        return dict(method='MAE+', variant=position)
    return dict(method='MAE', variant=None)


def describe_origin(path: str | None, checkpoint: dict) -> dict[str, str | None]:
    """What a task begins from.

    Args:
        path: Of the checkpoint.
        checkpoint: What `read_checkpoint` returns of it.

    Returns:
        ``method`` and ``variant``, see `describe_pretraining`, ``checkpoint``, the path, and
        ``sha256`` of a local file.
    """
    said = (checkpoint.get('meta') or {}).get(DESCRIPTION)
    said = said or describe_pretraining(find_weights(checkpoint))
    known = path is not None and Path(path).is_file()
    return dict(
        method=said['method'],
        variant=said['variant'],
        checkpoint=path,
        sha256=file_hash(path) if known else None,
    )


def pretraining_of(checkpoint: dict) -> dict[str, str | None]:
    """What the checkpoint of a task says of its beginning, see `describe_origin`."""
    said = (checkpoint.get('meta') or {}).get(DESCRIPTION) or {}
    hub = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    return dict(said.get('pretraining') or hub.get('pretraining') or UNKNOWN)


def backbone_config(source: str | Path | dict) -> dict:
    """Config of the `AdPEViT` in a checkpoint of ours, of pretraining or of a task.

    Args:
        source: Its path or address, or what `read_checkpoint` returns.

    Returns:
        See `infer_backbone`, with the settings of the config that the checkpoint holds, and
        ``type``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds no network with a backbone like ours.
    """
    checkpoint = source if isinstance(source, dict) else read_checkpoint(source)
    backbone = infer_backbone(find_weights(checkpoint), read_config(checkpoint))
    return dict(backbone, type='adpe_mm.AdPEViT')


def infer_backbone(weights: dict[str, Tensor], model: dict | None = None) -> dict:
    """Arguments of the `AdPEViT` that a state dict fits.

    Args:
        weights: Under our names.
        model: Config of the network that they are of, see `read_config`; the arrays have the last
            word where they tell.

    Returns:
        ``arch``, ``img_size``, ``patch_size``, ``in_channels``, ``position``, ``rpe_lookup``,
        ``with_cls_token``, ``final_norm``, and what else the config sets. Without a config the
        grid is taken to be square, and ``num_heads`` of ``arch``, which no array tells without
        iRPE, is None.

    Raises:
        ValueError: If arrays are missing that every backbone has.
    """
    _require(weights, 'backbone.patch_embed.projection.weight', 'backbone.pos_embed')
    channels, patch_size = weights['backbone.patch_embed.projection.weight'].shape[1:3]
    with_cls_token = 'backbone.cls_token' in weights
    side = round((weights['backbone.pos_embed'].shape[1] - with_cls_token) ** 0.5)
    told = dict(arch=_sizes(weights), img_size=side * patch_size, patch_size=patch_size)
    backbone = (model or {}).get('backbone') or {}
    if str(backbone.get('type')).startswith('adpe_mm.') or isinstance(backbone.get('arch'), dict):
        told.update({name: backbone[name] for name in _SETTINGS if backbone.get(name) is not None})
    return dict(
        told,
        in_channels=channels,
        position='rpe' if has_irpe(weights) else 'ape',
        rpe_lookup=find_lookup(weights) if has_irpe(weights) else None,
        with_cls_token=with_cls_token,
        final_norm='backbone.ln1.weight' in weights,
    )


def infer_config(state_dict: dict[str, Tensor]) -> dict:
    """Config of the `MAEPlus` that a converted state dict fits: see `infer_backbone`.

    Args:
        state_dict: Weights under our names.

    Returns:
        Config for `MODELS.build`. No array depends on the number of heads: it is 1 where none
        tells it.

    Raises:
        ValueError: If arrays are missing that every pretraining network has.
    """
    _require(state_dict, 'neck.embed.weight')
    width = state_dict['neck.embed.weight'].shape[0]
    backbone = dict(infer_backbone(state_dict), type='adpe_mm.AdPEPretrainViT')
    backbone['arch'].update(num_heads=backbone['arch']['num_heads'] or 1)
    return dict(
        type='adpe_mm.MAEPlus',
        backbone=backbone,
        neck=dict(
            type='adpe_mm.AdPEDecoder',
            embed_dims=width,
            num_layers=_count(state_dict, 'neck'),
            num_heads=_heads(state_dict, 'neck', width) or 1,
            feedforward_ratio=_hidden(state_dict, 'neck') / width,
        ),
        adversary=infer_adversary(state_dict),
    )


def _require(state_dict: dict[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise UserError(f'this is no pretraining checkpoint: it lacks {missing}')


def infer_adversary(weights: dict[str, Tensor]) -> dict | None:
    """Which adversary a pretraining network has, told by its arrays.

    Args:
        weights: A state dict of `MAEPlus`.

    Returns:
        Config of the adversary, or None if it has none of `adpe_mm/models/adversaries.py`.
    """
    param = weights.get('adversary.ape', weights.get('adversary.encoder.0'))
    if param is None:
        return None
    config = dict(type='adpe_mm.AdversarialPosition')
    if param.ndim == 1:  # a shift
        return dict(config, mode='coordinate')
    if param.ndim == 2:  # (D, buckets)
        config['per_bucket'] = param.shape[1] != 1
    return dict(config, mode='embedding')


def _sizes(weights: dict[str, Tensor]) -> dict:
    """Sizes of the backbone: ``num_heads`` is None where no array tells it."""
    width = weights['backbone.patch_embed.projection.weight'].shape[0]
    return dict(
        embed_dims=width,
        num_layers=_count(weights, 'backbone'),
        num_heads=_heads(weights, 'backbone', width),
        feedforward_channels=_hidden(weights, 'backbone'),
    )


def _heads(state_dict: dict[str, Tensor], part: str, width: int) -> int | None:
    """Number of heads, which iRPE's table of one head's width tells."""
    table = state_dict.get(f'{part}.layers.0.attn.rpe.table')
    return None if table is None else width // table.shape[0]


def _hidden(state_dict: dict[str, Tensor], part: str) -> int:
    """Width of a part's feed-forward networks."""
    return state_dict[f'{part}.layers.0.ffn.layers.0.0.weight'].shape[0]


def _count(state_dict: Iterable[str], part: str) -> int:
    """Number of blocks of a part."""
    found = (re.match(rf'{part}\.layers\.(\d+)\.', name) for name in state_dict)
    return 1 + max(int(match[1]) for match in found if match)
