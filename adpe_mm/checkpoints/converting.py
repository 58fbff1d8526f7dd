"""Other libraries' names for the arrays of these networks, and conversion in both directions.

facebookresearch/mae, timm and the official AdPE code name the encoder alike, so one table serves
all of them, and another Hugging Face's transformers: from left to right they import, from right to
left they export. Nothing is guessed
silently: what was mapped, what was dropped and why, and what is left is all in a `Report`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from adpe_mm.errors import UserError

from .describing import DESCRIPTION, describe
from .lookups import add_lookup, find_lookup
from .reading import find_weights, read_checkpoint

# `#` stands for the number of a block, `*` for the end of a name. Of several foreign names for one
# of ours, the first is used to export.
_BLOCK = (
    ('norm1.*', 'ln1.*'),
    ('norm2.*', 'ln2.*'),
    ('mlp.fc1.*', 'ffn.layers.0.0.*'),
    ('mlp.fc2.*', 'ffn.layers.1.*'),
    ('attn.qkv.*', 'attn.qkv.*'),
    ('attn.proj.*', 'attn.proj.*'),
    ('attn.rpe_k.lookup_table_weight', 'attn.rpe.table'),
    ('attn.rpe_k.lookup_table_bias', 'attn.rpe.table'),
)
_NAMES = (
    ('cls_token', 'backbone.cls_token'),
    ('pos_embed', 'backbone.pos_embed'),
    ('mask_token', 'backbone.mask_token'),
    ('patch_embed.proj.*', 'backbone.patch_embed.projection.*'),
    *((f'blocks.#.{foreign}', f'backbone.layers.#.{ours}') for foreign, ours in _BLOCK),
    ('norm.*', 'backbone.ln1.*'),
    ('fc_norm.*', 'backbone.ln2.*'),  # of a classifier, after the mean of the patches
    ('decoder_embed.*', 'neck.embed.*'),
    *((f'decoder_blocks.#.{foreign}', f'neck.layers.#.{ours}') for foreign, ours in _BLOCK),
    ('decoder_norm.*', 'neck.ln1.*'),
    ('decoder_pred.*', 'neck.predict.*'),
    ('adv_token', 'adversary.ape'),
    ('blocks.#.attn.rpe_k.adv_shift', 'adversary.encoder.#'),  # coordinate mode
    ('blocks.#.attn.rpe_k.adv_token', 'adversary.encoder.#'),  # embedding mode
    ('decoder_blocks.#.attn.rpe_k.adv_shift', 'adversary.decoder.#'),
    ('decoder_blocks.#.attn.rpe_k.adv_token', 'adversary.decoder.#'),
)
# Hugging Face's `ViTModel`, as its files have it. It keeps query, key and value apart.
_TRANSFORMERS = (
    ('embeddings.cls_token', 'backbone.cls_token'),
    ('embeddings.position_embeddings', 'backbone.pos_embed'),
    ('embeddings.patch_embeddings.projection.*', 'backbone.patch_embed.projection.*'),
    ('encoder.layer.#.layernorm_before.*', 'backbone.layers.#.ln1.*'),
    ('encoder.layer.#.layernorm_after.*', 'backbone.layers.#.ln2.*'),
    ('encoder.layer.#.attention.attention.query.*', 'backbone.layers.#.attn.query.*'),
    ('encoder.layer.#.attention.attention.key.*', 'backbone.layers.#.attn.key.*'),
    ('encoder.layer.#.attention.attention.value.*', 'backbone.layers.#.attn.value.*'),
    ('encoder.layer.#.attention.output.dense.*', 'backbone.layers.#.attn.proj.*'),
    ('encoder.layer.#.intermediate.dense.*', 'backbone.layers.#.ffn.layers.0.0.*'),
    ('encoder.layer.#.output.dense.*', 'backbone.layers.#.ffn.layers.1.*'),
    ('layernorm.*', 'backbone.ln1.*'),
    # Of `Dinov2Model`, where it differs.
    ('encoder.layer.#.norm1.*', 'backbone.layers.#.ln1.*'),
    ('encoder.layer.#.norm2.*', 'backbone.layers.#.ln2.*'),
    ('encoder.layer.#.mlp.fc1.*', 'backbone.layers.#.ffn.layers.0.0.*'),
    ('encoder.layer.#.mlp.fc2.*', 'backbone.layers.#.ffn.layers.1.*'),
)
_CONSTANTS = r'decoder_pos_embed|(?:decoder_)?blocks\.\d+\.attn\.rpe_k\.no_shift'
# What the other libraries do not know.
_RELATIVE = r'backbone\.layers\.\d+\.attn\.(rpe|rel_pos_bias|decomposed_rpe)\..*'
# What pretraining has and the backbone of other tasks has not.
_LEFT_BEHIND = r'(neck|adversary|data_preprocessor)\..*|backbone\.mask_token'


def _rules(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern, str]]:
    """Pairs of a regular expression of a whole name and what to replace it with."""
    rules = []
    for source, target in pairs:
        pattern = re.escape(source).replace(r'\#', r'(\d+)').replace(r'\*', '(.*)')
        rules.append((re.compile(pattern), re.sub(r'[#*]', '{}', target)))
    return rules


_TO_OURS = _rules(_NAMES)
_TO_FOREIGN = _rules((ours, foreign) for foreign, ours in _NAMES)
_TO_TRANSFORMERS = _rules((ours, foreign) for foreign, ours in _TRANSFORMERS)
_FROM_TRANSFORMERS = _rules(_TRANSFORMERS)


def _renamed(name: str, rules: list[tuple[re.Pattern, str]]) -> str | None:
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            return target.format(*match.groups())
    return None


def our_name(name: str) -> str | None:
    """Our name for a parameter of the official code, MAE or timm; None if it has none."""
    return _renamed(name, _TO_OURS)


def foreign_name(name: str) -> str | None:
    """The name that timm, MAE and the official code have for one of ours, or None."""
    return _renamed(name, _TO_FOREIGN)


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        mapped: New name of each old one.
        constants: Old names whose values this package computes itself; they agreed.
        unexpected: Old names that nothing here corresponds to.
    """

    mapped: dict[str, str] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def check(self, allowed: Iterable[str] = ()) -> None:
        """Raise a ValueError if an array without a counterpart is not allowed by name.

        Args:
            allowed: Regular expressions of whole official names.
        """
        left = [n for n in self.unexpected if not any(re.fullmatch(p, n) for p in allowed)]
        if left:
            raise UserError(
                f'{len(left)} arrays have no counterpart here: {", ".join(left[:6])}; if they may '
                'be dropped, name them with --allow'
            )

    def __str__(self) -> str:
        lines = [f'{old} -> {new}' for old, new in self.mapped.items()]
        lines += [f'{old}: a constant, computed here and equal' for old in self.constants]
        lines += [f'{old}: no counterpart' for old in self.unexpected]
        lines.append(
            f'{len(self.mapped)} mapped, {len(self.constants)} constants, '
            f'{len(self.unexpected)} without a counterpart'
        )
        return '\n'.join(lines)


def convert(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    """Official AdPE (any variant, any size) or MAE pretraining weights -> ours.

    Args:
        state_dict: Weights under the official names.

    Returns:
        Weights under the names of `MAEPlus`, with the look-up of iRPE, and the report.

    Raises:
        ValueError: If a constant of the official network (decoder positions, zero shift) does not
            have the value that this package computes.
    """
    converted, report = {}, Report()
    for name, value in state_dict.items():
        if re.fullmatch(_CONSTANTS, name):
            _check_constant(name, value)
            report.constants.append(name)
            continue
        new = our_name(name)
        if new is None:
            report.unexpected.append(name)
            continue
        if new.endswith('attn.rpe.table') or (
            new.startswith(('adversary.encoder.', 'adversary.decoder.')) and value.ndim == 3
        ):
            value = value.squeeze(0)  # the official tables have an axis of heads, shared: 1
        report.mapped[name] = new
        converted[new] = value
    # The official code interpolates for its coordinate adversary only.
    add_lookup(converted, find_lookup(converted) or 'bucket')
    return converted, report


def _check_constant(name: str, value: Tensor) -> None:
    expected = torch.zeros_like(value)
    if not name.endswith('no_shift'):
        side = round((value.shape[1] - 1) ** 0.5)
        if side * side != value.shape[1] - 1:
            return  # rows and columns are not known here; the positions are computed anyway
        expected = sincos_position(side, value.shape[2])
    if not torch.allclose(value.float(), expected.float(), atol=1e-4):
        raise UserError(
            f"'{name}' is not the constant of the published method, so this checkpoint would "
            'behave differently here'
        )


def sincos_position(side: int, embed_dims: int) -> Tensor:
    """MAE's fixed positions by definition, (1, 1 + side², embed_dims): the cls token's is 0."""
    frequency = 10000.0 ** (-torch.arange(embed_dims // 4) / (embed_dims // 4))
    row, column = torch.cartesian_prod(torch.arange(side), torch.arange(side)).T
    angles = [axis[:, None] * frequency for axis in (column, row)]
    grid = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.cat((torch.zeros(1, embed_dims), grid)).unsqueeze(0)


def load_backbone(path: str | Path) -> tuple[dict, list[str]]:
    """Read the backbone with absolute positions out of a checkpoint of ours, to export it.

    Args:
        path: Checkpoint of pretraining, or of a classifier.

    Returns:
        A checkpoint of its weights, named ``backbone.*``, with what they were described as; and
        the names of what was left behind.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as weights only, has no backbone, or has relative
            positions, which the other libraries lack.
    """
    checkpoint = read_checkpoint(path)
    weights = find_weights(checkpoint, path)
    names = [name for name in weights if name.startswith('backbone.')]
    if not names:
        raise UserError(f"'{path}' holds no weights named backbone.*")
    if any(re.fullmatch(_RELATIVE, name) for name in names):
        raise UserError(
            f"'{path}' has relative positions, which timm and mmpretrain do not have: only "
            'networks with absolute positions can be exported'
        )
    kept = {name: weights[name] for name in names if not re.fullmatch(_LEFT_BEHIND, name)}
    left = [name for name in weights if name not in kept]
    return dict(state_dict=kept, meta={DESCRIPTION: describe(checkpoint)}), left


def to_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of timm's `VisionTransformer` for the weights of `load_backbone`."""
    return {
        foreign_name(name) or name.removeprefix('backbone.'): value
        for name, value in weights.items()
    }


def from_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of timm for the weights of Hugging Face's `ViTModel` or `Dinov2Model`.

    Raises:
        ValueError: If an array has no counterpart, or one of query, key and value is missing.
    """
    renamed, parts = {}, {}
    for name, value in weights.items():
        ours = _renamed(name, _FROM_TRANSFORMERS)
        if match := re.fullmatch(r'(.*\.attn)\.(query|key|value)(\..*)', ours or ''):
            parts.setdefault(f'{match[1]}.qkv{match[3]}', {})[match[2]] = value
        else:
            renamed[foreign_name(ours) if ours else name] = value
    for ours, found in parts.items():
        if len(found) != 3:
            raise UserError(
                f'of query, key and value, {ours} has only {", ".join(found)}: copy the '
                'weights anew'
            )
        renamed[foreign_name(ours)] = torch.cat([found[n] for n in ('query', 'key', 'value')])
    return renamed


def to_transformers(checkpoint: dict, num_heads: int) -> tuple[dict, dict[str, Tensor]]:
    """What Hugging Face's `ViTModel` is made of, without its pooling layer.

    Args:
        checkpoint: What `load_backbone` returns.
        num_heads: Heads of the attention, which no array tells.

    Returns:
        Content of ``config.json``, and the weights of ``model.safetensors``.

    Raises:
        ValueError: If the network is not a `ViTModel`, which has a cls token, a norm at its end and
            nothing more.
    """
    described, weights = checkpoint['meta'][DESCRIPTION], {}
    for name, value in checkpoint['state_dict'].items():
        if '.attn.qkv.' in name:
            parts = ('query', 'key', 'value')
            own = (name.replace('.qkv.', f'.{part}.') for part in parts)
            weights.update(zip(own, value.chunk(3), strict=True))
        else:
            weights[name] = value
    missing = sorted({'backbone.cls_token', 'backbone.ln1.weight'} - set(weights))
    surplus = [name for name in weights if _renamed(name, _TO_TRANSFORMERS) is None]
    if missing or surplus:
        raise UserError(
            'this is no ViTModel of transformers, which '
            + (f'needs {missing[0]}' if missing else f'has no {surplus[0]}')
            + ': export the pretraining that it began from'
        )
    config = dict(
        architectures=['ViTModel'],
        model_type='vit',
        image_size=described['img_size'],
        patch_size=described['patch_size'],
        num_channels=weights['backbone.patch_embed.projection.weight'].shape[1],
        hidden_size=described['embed_dims'],
        num_hidden_layers=described['num_layers'],
        num_attention_heads=num_heads,
        intermediate_size=len(weights['backbone.layers.0.ffn.layers.0.0.bias']),
        hidden_act='gelu',
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6,
        qkv_bias=True,
    )
    return config, {_renamed(name, _TO_TRANSFORMERS): value for name, value in weights.items()}
