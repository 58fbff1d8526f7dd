"""The encoder that is probed: a network of its own, of what a training or a checkpoint holds."""

from pathlib import Path

import torch
from torch import Tensor, nn

from adpe_mm.checkpoints import (
    convert,
    find_weights,
    has_backbone,
    infer_backbone,
    read_checkpoint,
    read_config,
    unwrap,
)
from adpe_mm.engine.sharding import full
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT, MultiCropPreprocessor, check_statistics

# Arrays of a classifier of timm or MAE, which do not change its features.
HEADS = r'(head|head_dist|fc_head)\..*'


def encoder_of(weights: dict[str, Tensor], config: dict, statistics: dict) -> AdPEViT:
    """An encoder with the weights of another network, in evaluation mode.

    Args:
        weights: Of the whole network, under our names.
        config: Of the whole network, see `infer_backbone`.
        statistics: ``mean`` and ``std`` of the pixels, as far as they are known.

    Raises:
        ValueError: If they hold no encoder of ours, or not all that it needs is told.
    """
    options = infer_backbone(weights, config)
    known = {name: value for name, value in options.items() if value is not None}
    model = AdPEViT(**known, out_type='featmap')
    own = {n: v for n, v in weights.items() if not n.startswith('backbone.ln2.')}
    model.load_pretrained(own)
    model.data_preprocessor = MultiCropPreprocessor(**statistics)
    check_statistics(model.data_preprocessor, model.in_channels)
    return model.requires_grad_(False).eval()


def copy_encoder(model: nn.Module, config: dict) -> AdPEViT:
    """The encoder of a network in training, copied: what is done to it never reaches the network.

    DDP, sharding and compiled blocks are left behind; under sharding all processes must call this.

    Args:
        model: As the runner has it.
        config: Of the network.

    Raises:
        ValueError: If its backbone is no Vision Transformer as ours.
    """
    network = unwrap(model)
    weights = {name: full(value) for name, value in network.state_dict().items()}
    if not has_backbone(weights):
        raise UserError(
            'ProbeHook judges networks whose backbone is an AdPEViT or has its parameters, such as '
            f"mmpretrain's MAEViT, and not {type(network).__name__}: leave the hook out"
        )
    device = weights['backbone.pos_embed'].device
    with torch.device(device):
        return encoder_of(weights, config, _statistics(network)).to(device)


def _statistics(network: nn.Module) -> dict[str, list[float]]:
    given = getattr(network, 'data_preprocessor', None)
    found = {name: getattr(given, name, None) for name in ('mean', 'std')}
    return {n: v.flatten().tolist() for n, v in found.items() if torch.is_tensor(v)}


def read_encoder(
    path: str | Path, random: int | None = None, statistics: dict | None = None
) -> AdPEViT:
    """The encoder of a checkpoint: of ours, of mmpretrain, timm, MAE or the official AdPE code.

    Args:
        path: File or http address.
        random: Seed of random weights in place of those of the checkpoint; None for the latter.
        statistics: ``mean`` and ``std`` of the pixels, in place of those of its config.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no encoder of ours, or not all that it needs is told.
    """
    checkpoint = read_checkpoint(path)
    weights, config = find_weights(checkpoint, path), read_config(checkpoint)
    if 'patch_embed.projection.weight' in weights:  # of a backbone alone
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    if not has_backbone(weights):
        weights, report = convert(weights)
        report.check([HEADS])
        if not has_backbone(weights):
            raise UserError(f"'{path}' holds no Vision Transformer that is known here")
    given = config.get('data_preprocessor') or {}
    found = {name: given[name] for name in ('mean', 'std') if given.get(name)}
    model = encoder_of(weights, config, found | (statistics or {}))
    if random is not None:
        with torch.random.fork_rng():
            torch.manual_seed(random)
            model.reset_parameters()
    return model
