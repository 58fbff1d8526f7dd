"""Encoders of other libraries as ours: what can be had exactly, and nothing else.

Of facebookresearch's MAE, DINO and DINOv2, of timm, and of Hugging Face's `ViTModel`, `ViTMAE` and
`Dinov2Model`: pretrained or fine-tuned, alone or beside a head or a decoder, which are left behind.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adpe_mm.errors import UserError

from .converting import Report, convert, from_transformers, sincos_position
from .reading import find_weights

# What a network has beside its encoder, by what it is of.
_BESIDE = {
    r'decoder.*|mask_token|embeddings\.mask_token': 'of the decoder',
    r'(head|head_drop|fc|classifier|pre_logits)\..*': 'of the classes',
    r'pooler\..*': 'of the pooled output',
}
# What our backbone has no place for.
_FOREIGN = {
    r'.*(reg_token|register_tokens|storage_tokens)': 'register tokens',
    r'.*(dist_token|distillation_token)|head_dist\..*': 'a distillation token',
    r'norm_pre\..*': 'a norm before its blocks',
    r'.*\.(q_norm|k_norm)\..*': 'norms of queries and keys',
    r'.*\.mlp\.(w12|w3|weights_in|weights_out|fc1_g)\..*': 'gated feed-forward networks (SwiGLU)',
    r'.*relative_position_bias.*|.*rel_pos.*': 'a relative position bias',
}
# Prefixes of the encoder within a whole network.
_PREFIXES = ('module.', '_orig_mod.', 'teacher.', 'backbone.', 'vit.', 'dinov2.')
# Scales of what a block adds, which its last linear layer can have in its own weights.
_SCALES = {
    r'(blocks\.(?:\d+\.)?\d+)\.(?:ls1\.gamma|gamma_1)': 'attn.proj',
    r'(blocks\.(?:\d+\.)?\d+)\.(?:ls2\.gamma|gamma_2)': 'mlp.fc2',
    r'(encoder\.layer\.\d+)\.layer_scale1\.lambda1': 'attention.output.dense',
    r'(encoder\.layer\.\d+)\.layer_scale2\.lambda1': 'mlp.fc2',
}


@dataclass
class Encoder:
    """An encoder of another library under our names.

    Attributes:
        weights: Named ``backbone.*``.
        report: What became of each array that was mapped.
        left: Arrays that were left behind, and what they are of.
        notes: What was computed into others, in words.
        is_mae: Whether it is known to be of MAE: positions are its fixed ones, or its decoder was
            beside it.
    """

    weights: dict[str, Tensor]
    report: Report
    left: dict[str, str]
    notes: list[str] = field(default_factory=list)
    is_mae: bool = False

    def __str__(self) -> str:
        lines = [str(self.report), *self.notes]
        return '\n'.join(lines + [f'{name}: {of}, left behind' for name, of in self.left.items()])


def read_encoder(
    checkpoint: dict, path: str = 'the checkpoint', allowed: Iterable[str] = ()
) -> Encoder:
    """Find the encoder in a checkpoint of another library.

    Args:
        checkpoint: What `read_checkpoint` returns: a state dict, or one under 'model',
            'state_dict' or, of DINO and DINOv2, 'teacher', which is the network to use.
        path: Where it is from, for the messages.
        allowed: Regular expressions of whole names without a counterpart that may be dropped.

    Raises:
        ValueError: If it has what our backbone has no place for, or lacks what it needs.
    """
    if isinstance(checkpoint.get('teacher'), dict):
        checkpoint = checkpoint['teacher']
    weights, left = _without_the_rest(find_weights(checkpoint, path))
    for name in weights:
        for pattern, what in _FOREIGN.items():
            if re.fullmatch(pattern, name):
                raise UserError(
                    f"'{path}' has {what} ({name}), which the backbone has no place for: take a "
                    'network without'
                )
    notes = []
    weights = _scaled(weights, notes)
    if any(name.startswith('embeddings.') for name in weights):
        weights = from_transformers(weights)
    weights = {re.sub(r'^blocks\.\d+\.(\d+\.)', r'blocks.\1', n): v for n, v in weights.items()}
    converted, report = convert(weights)
    report.check(allowed)
    position, cls_token = (converted.get(f'backbone.{n}') for n in ('pos_embed', 'cls_token'))
    is_mae = any(name.startswith('decoder') for name in left)
    if position is not None and cls_token is not None:
        side = round(position.shape[1] ** 0.5)
        if side * side == position.shape[1]:  # of the patches alone
            position = torch.cat((torch.zeros_like(position[:, :1]), position), dim=1)
            converted['backbone.pos_embed'] = position
            notes.append('pos_embed: the cls token has no position, which is one of zeros')
        side = round((position.shape[1] - 1) ** 0.5)
        fixed = sincos_position(side, position.shape[2])
        is_mae = is_mae or (
            fixed.shape == position.shape and torch.allclose(fixed, position.float(), atol=1e-4)
        )
    return Encoder(converted, report, left, notes, is_mae)


def _without_the_rest(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The encoder's arrays under their own names, and what else there is, by what it is of."""
    kept, left = {}, {}
    for name, value in weights.items():
        short = name
        for prefix in _PREFIXES:
            short = short.removeprefix(prefix)
        of = next((of for pattern, of in _BESIDE.items() if re.fullmatch(pattern, short)), None)
        if of is None:
            kept[short] = value
        else:
            left[name] = of
    return kept, left


def _scaled(weights: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Weights without layer scale: the layer before it has it in its own, which is the same."""
    scaled, count = dict(weights), 0
    for name, scale in weights.items():
        for pattern, layer in _SCALES.items():
            if match := re.fullmatch(pattern, name):
                del scaled[name]
                weight, bias = (f'{match[1]}.{layer}.{kind}' for kind in ('weight', 'bias'))
                scaled[weight] = scaled[weight] * scale[:, None]
                scaled[bias] = scaled[bias] * scale
                count += 1
    if count:
        notes.append(f'{count} layer scales multiplied into the layers before them')
    return scaled
