"""Networks and their features in a few lines of Python: what ``import adpe_mm`` offers.

model = adpe_mm.get_model('work_dirs/x/epoch_1600.pth')
features, paths = adpe_mm.extract_features(model, 'my_images')
"""

import inspect
from pathlib import Path

import torch
from torch import Tensor

from adpe_mm.errors import MissingFile, UserError

from .checkpoints import (
    find_weights,
    has_backbone,
    infer_backbone,
    load_weights,
    read_checkpoint,
    read_config,
)
from .evaluation.features import extract_features, iterate_features
from .models import AdPEViT, MultiCropPreprocessor
from .models.backbones.adpe_vit import ARCHITECTURES, architecture

__all__ = [
    'extract_features',
    'get_model',
    'iterate_features',
    'list_models',
    'register_models',
]

ROOT = Path(__file__).resolve().parent
# What the encoders of configs/pretrain are, with the names of the configs.
_INTERPOLATED = dict(position='rpe', rpe_lookup='interpolate')
_BUCKETS = dict(position='rpe', rpe_lookup='bucket')
_ABSOLUTE = dict(position='ape')
_NAMED = {
    f'{method}_vit-{arch}{variant}': dict(positions, arch=arch)
    for method, variant, positions in (
        ('adpe', '', _INTERPOLATED),
        ('adpe', '_rpe-embed', _BUCKETS),
        ('adpe', '_ape-coord', _ABSOLUTE),
        ('adpe', '_ape-embed', _ABSOLUTE),
        ('maeplus', '_rpe', _BUCKETS),
        ('maeplus', '_ape', _ABSOLUTE),
    )
    for arch in ARCHITECTURES
}
_OPTIONS = set(inspect.signature(AdPEViT).parameters) - {'init_cfg'}


def list_models() -> list[str]:
    """Names that `get_model` knows, as the configs have them: 'adpe_vit-b', 'maeplus_vit-l_ape'.

    'ti', 's', 'b', 'l', 'h' is the architecture; behind it stand, for AdPE, the kind of position
    and the mode of the adversary (without any, relative positions and coordinates, the best of the
    paper), and for MAE+ the kind of position.
    """
    return sorted(_NAMED)


def get_model(
    name_or_path: str | Path,
    pretrained: bool | str | Path = True,
    device: str | torch.device | None = None,
    **overrides,
) -> AdPEViT:
    """An encoder in evaluation mode, from a checkpoint or by name.

    Of a checkpoint, the architecture, the positions, the look-up of iRPE, the sizes of image and
    patch, and the mean and std of the pixels are those of the config that is stored in it. Without
    one, as in a converted checkpoint, they are read off the arrays.

    Args:
        name_or_path: A checkpoint of pretraining or of a task (file or http address), or one of
            `list_models`.
        pretrained: True for the weights of the checkpoint, False for random ones. With a name, a
            checkpoint or False: no weights are published.
        device: Where it goes; None for torch's default, the CPU.
        **overrides: Options of `AdPEViT` in place of those found; ``arch`` as a dict changes what
            it names. Positions are interpolated to another ``img_size``, and weights of RGB begin a
            network of other ``in_channels``: see `adpe_mm.checkpoints.kernel_of_bands`.

    Returns:
        The network; its ``data_preprocessor`` has the mean and std, for `extract_features`.

    Raises:
        FileNotFoundError: If there is neither such a model nor such a file.
        ValueError: If the checkpoint holds another network, or something has to be stated.
    """
    unknown = sorted(set(overrides) - _OPTIONS)
    if unknown:
        raise UserError(f'get_model has no options {unknown}; an AdPEViT has {sorted(_OPTIONS)}')
    name, statistics = str(name_or_path), {}
    if name in _NAMED:
        if pretrained is True:
            raise UserError(
                f"no weights of '{name}' are published: say pretrained=False for random ones, or "
                'pretrained=PATH for those of a checkpoint'
            )
        options, weights = _NAMED[name], load_weights(pretrained) if pretrained else None
    else:
        if not isinstance(pretrained, bool):
            raise UserError(
                f"pretrained='{pretrained}' needs the name of a model; of a checkpoint, such as "
                f"'{name}', it is True or False"
            )
        options, weights, statistics = _read(name, overrides)
    if isinstance(overrides.get('arch'), dict):
        arch = options.get('arch', 'b')
        overrides['arch'] = (architecture(arch) if isinstance(arch, str) else arch) | overrides[
            'arch'
        ]
    model = AdPEViT(**{**options, **overrides})
    if pretrained:
        model.load_pretrained(weights)
    else:
        model.reset_parameters()
    model.data_preprocessor = MultiCropPreprocessor(**statistics)
    return (model if device is None else model.to(device)).eval()


def _read(path: str, stated: dict) -> tuple[dict, dict[str, Tensor], dict]:
    """Options of the `AdPEViT` of a checkpoint, its weights, and mean and std of the pixels.

    Args:
        path: File or http address.
        stated: Options that need not be found.
    """
    if not Path(path).suffix and '/' not in path and not Path(path).exists():
        raise MissingFile(
            f"there is no model and no checkpoint '{path}': see adpe_mm.list_models()"
        )
    checkpoint = read_checkpoint(path)
    weights, config = find_weights(checkpoint, path), read_config(checkpoint)
    if 'patch_embed.projection.weight' in weights:  # of a backbone alone
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    if not has_backbone(weights):
        raise UserError(
            f"'{path}' holds no Vision Transformer of this package: convert it first with one of "
            'tools/model_converters'
        )
    backbone, preprocessor = config.get('backbone') or {}, config.get('data_preprocessor') or {}
    statistics = {name: preprocessor[name] for name in ('mean', 'std') if preprocessor.get(name)}
    options = dict(out_type='featmap')
    if 'backbone.ln2.weight' in weights:
        options['out_type'] = 'avg_featmap'
    elif 'backbone.cls_token' in weights:
        options['out_type'] = 'cls_token'
    options.update((name, value) for name, value in backbone.items() if name in _OPTIONS)
    options.update(infer_backbone(weights, config))
    untold = []
    if options['position'] == 'rpe' and not (options['rpe_lookup'] or stated.get('rpe_lookup')):
        untold.append("rpe_lookup='bucket' or 'interpolate'")
    if not backbone and not options['with_cls_token'] and 'window_size' not in stated:
        untold.append('window_size=...')
    if untold:
        raise UserError(
            f"'{path}' has no config, and its arrays do not tell all: state {', '.join(untold)}"
        )
    return options, weights, statistics


def register_models() -> None:
    """Let `mmpretrain.get_model` and `mmpretrain.list_models` find networks of this package.

    They are the pretraining networks and the classifiers of `configs/`. UperNet and the detectors
    are not among them: mmpretrain builds everything in its own scope, where mmsegmentation's and
    mmdetection's heads do not exist.
    """
    from mmpretrain.apis import ModelHub

    if ModelHub.has('adpe_vit-b_400e'):
        return
    # Installed, configs are where MIM looks for them; else this is a clone.
    root = next(folder for folder in (ROOT / '.mim', ROOT.parent) if (folder / 'configs').is_dir())
    for task in ('pretrain', 'cls'):
        ModelHub.register_model_index(root / 'configs' / task / 'metafile.yml', root)
