"""This package against numbers that were recorded from the official AdPE code.

Every size is read off the arrays: widths, depths and the patch off the weights, the grid off the
images, the mask ratio off the mask. Only the number of heads has no array without iRPE; it is the
divisor of the width whose latent (prediction, for the decoder) comes closest to the recorded one.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.runner import load_state_dict
from torch import Tensor, nn

from adpe_mm.checkpoints import convert, infer_config, our_name
from adpe_mm.engine import LayerDecayOptimWrapperConstructor
from adpe_mm.errors import MissingFile, UserError
from adpe_mm.models import AdPEViT
from adpe_mm.models.layers import Attention
from adpe_mm.registry import MODELS

TOLERANCE = dict(mask=0.0, loss=1e-5, activation=1e-5, gradient=1e-4, trajectory=1e-4)
# A recorded gradient smaller than this everywhere is rounding noise; ours must then be as small.
NOISE = 1e-7
# Training settings of the recorded trajectories.
LR, ASCENT_LR, WEIGHT_DECAY, BETAS = 1e-2, 2e-2, 0.05, (0.9, 0.95)


@dataclass
class Recording:
    """One file of numbers, by kind.

    Attributes:
        arrays: Every number in the file, as tensors.
        source: Of a fine-tuning network, the recording that its weights come from.
        lines: Quantity, largest error and tolerance of each comparison.
    """

    path: Path
    arrays: dict[str, Tensor]
    source: str | None = None
    lines: list[tuple[str, float, float]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> 'Recording':
        if not path.is_file():
            raise MissingFile(f'there is no recording {path}')
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files if file[key].dtype.kind in 'fiub'}
            source = str(file['source']) if 'source' in file.files else None
        return cls(path, {key: torch.from_numpy(np.array(a)) for key, a in arrays.items()}, source)

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {
            key[len(prefix) :]: value
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }

    def compare(self, quantity: str, ours: Tensor, recorded: Tensor, kind: str) -> None:
        """Note the largest difference, relative to the recording's largest entry."""
        ours, recorded = ours.detach().double().cpu(), recorded.double()
        if ours.shape != recorded.shape:
            ours = ours.reshape(recorded.shape)
        difference, scale = (ours - recorded).abs().max().item(), recorded.abs().max().item()
        tolerance = TOLERANCE[kind]
        if kind == 'gradient' and scale < NOISE:
            self.lines.append((f'{quantity} (noise)', ours.abs().max().item(), NOISE))
            return
        # Activations are of order one: their error is absolute where they are smaller.
        scale = max(scale, 1.0) if kind == 'activation' else scale
        self.lines.append((quantity, difference / scale if scale else difference, tolerance))


def build(recording: Recording) -> nn.Module:
    """The recorded network with its weights, every size from the arrays."""
    weights, report = convert(recording.group('param/'))
    if report.unexpected:
        raise UserError(f'{recording.path}: no counterpart for {report.unexpected}')
    images, mask = recording.arrays['images'], recording.arrays['mask']
    config = infer_config(weights)
    config['backbone']['img_size'] = tuple(images.shape[2:])
    # int(N * (1 - ratio)) patches are kept: half a patch more makes that exact again.
    kept = int((mask[0] == 0).sum())
    config['backbone']['mask_ratio'] = 1 - (kept + 0.5) / mask.shape[1]
    model = MODELS.build(config).float().eval()
    load_state_dict(model, weights, strict=True)
    if model.backbone.position == 'ape':  # iRPE's table tells the heads
        _choose_heads(model, model.backbone, recording, 'latent')
        _choose_heads(model, model.neck, recording, 'pred')
    return model


@torch.no_grad()
def _choose_heads(model: nn.Module, part: nn.Module, recording: Recording, quantity: str) -> None:
    """Set the number of heads of a part that comes closest to the recording."""
    divisors = [n for n in range(1, part.embed_dims + 1) if part.embed_dims % n == 0]

    def set_heads(heads: int) -> None:
        for module in part.modules():
            if isinstance(module, Attention):
                module.head_dim = module.head_dim * module.num_heads // heads
                module.num_heads = heads

    def error(heads: int) -> float:
        set_heads(heads)
        images, noise = recording.arrays['images'], recording.arrays['noise']
        if quantity == 'latent':
            mask = model.backbone.draw_mask(images, noise)
            ours = model.backbone.encode_masked(images, mask, model.adversary)
        else:
            ours, _ = model.predict_patches(images, noise)
        return (ours - recording.arrays[quantity]).abs().max().item()

    set_heads(min(divisors, key=error))


def check_forward_backward(recording: Recording) -> None:
    """Mask, activations, loss, and every gradient."""
    model = build(recording)
    arrays = recording.arrays
    mask = model.backbone.draw_mask(arrays['images'], arrays['noise'])
    latent = model.backbone.encode_masked(arrays['images'], mask, model.adversary)
    recording.compare('mask', mask.masked, arrays['mask'], 'mask')
    recording.compare('latent', latent, arrays['latent'], 'activation')
    pred, _ = model.predict_patches(arrays['images'], arrays['noise'])
    recording.compare('pred', pred, arrays['pred'], 'activation')
    loss = model.loss(arrays['images'], noise=arrays['noise'])['loss']
    recording.compare('loss', loss, arrays['loss'], 'loss')
    loss.backward()
    ours = dict(model.named_parameters())
    for name, gradient in recording.group('grad/').items():
        param = ours[our_name(name)]
        if param.grad is None:
            raise UserError(f'{recording.path}: no gradient reaches {our_name(name)}')
        recording.compare(f'grad {name}', param.grad, gradient, 'gradient')


def check_trajectory(recording: Recording, norm: str) -> None:
    """Losses of a few training steps, and the adversary after them."""
    recorded = recording.group(f'traj/{norm}/')
    model = build(recording)
    optimizer = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=LR, weight_decay=WEIGHT_DECAY, betas=BETAS)),
        dict(ascent=dict(lr=ASCENT_LR)),
    )(model)
    model.adversary.norm = None if norm == 'none' else norm
    model.adversary.eps = recorded['eps'].item()
    losses = []
    for _ in recorded['losses']:
        loss = model.loss(recording.arrays['images'], noise=recording.arrays['noise'])['loss']
        optimizer.update_params(loss)
        model.adversary.project()
        losses.append(loss.detach())
    recording.compare(f'{norm}: losses', torch.stack(losses), recorded['losses'], 'trajectory')
    if not getattr(model.adversary, 'per_bucket', True):
        return  # the official gradients are rounding noise, and so is where they lead
    ours = dict(model.named_parameters())
    for name, value in recording.group(f'traj/{norm}/param/').items():
        recording.compare(f'{norm}: {name}', ours[our_name(name)], value, 'trajectory')


@torch.no_grad()
def check_finetuning(recording: Recording) -> None:
    """Resized positions and logits of a network fine-tuned from another recording's weights."""
    source = Recording.load(recording.path.with_name(f'{recording.source}.npz'))
    weights, _ = convert(source.group('param/'))
    pretraining = infer_config(weights)['backbone']
    if pretraining['position'] == 'ape':
        pretraining['arch']['num_heads'] = build(source).backbone.layers[0].attn.num_heads
    head = recording.group('param/')
    backbone = AdPEViT(
        arch=pretraining['arch'],
        patch_size=pretraining['patch_size'],
        img_size=tuple(recording.arrays['images'].shape[2:]),
        position=pretraining['position'],
        rpe_lookup=pretraining['rpe_lookup'],
        rpe_scaled_query=False,  # as the official fine-tuning code; no difference without iRPE
        out_type='avg_featmap',
        final_norm=False,
    ).eval()
    encoder = {
        name.removeprefix('backbone.'): value
        for name, value in weights.items()
        if name.startswith('backbone.') and not name.startswith(('backbone.ln1', 'backbone.mask'))
    }
    encoder |= {'ln2.weight': head['fc_norm.weight'], 'ln2.bias': head['fc_norm.bias']}
    load_state_dict(backbone, encoder, strict=True)
    recording.compare('pos_embed', backbone.pos_embed, recording.arrays['pos_embed'], 'activation')
    features = backbone(recording.arrays['images'])[0]
    logits = F.linear(features, head['head.weight'], head['head.bias'])
    recording.compare('logits', logits, recording.arrays['logits'], 'activation')


def check_recording(path: Path) -> Recording:
    """All comparisons of one file.

    Args:
        path: A recording of a pretraining or a fine-tuning network; for the latter the file of
            its pretraining network lies beside it.

    Returns:
        The recording with one line a quantity.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its weights have no counterpart here.
    """
    recording = Recording.load(path)
    if recording.source is not None:
        check_finetuning(recording)
        return recording
    missing = {'images', 'noise', 'mask', 'latent', 'pred', 'loss'} - set(recording.arrays)
    if missing:
        raise UserError(f'{path} is no recording of a pretraining step: it lacks {sorted(missing)}')
    check_forward_backward(recording)
    for norm in sorted({key.split('/')[1] for key in recording.arrays if key.startswith('traj/')}):
        check_trajectory(recording, norm)
    return recording
