"""Making sure that weights are those of a network."""

import re
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.nn import functional as F

from adpe_mm.errors import UserError

RGB = 3
KERNEL = 'patch_embed.projection.weight'  # of a backbone, as its name ends


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, without DDP or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def resize_patch_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """A patch embedding's kernel for patches of another size, interpolated bicubically.

    So MAE's ViT-H, of patches of 14 px, begins in ViTDet at 16 px (Li et al., arXiv 2203.16527,
    appendix; the way of interpolating is that of facebookresearch/long_seq_mae, issue 2).

    Args:
        kernel: (E, channels, height, width).
        size: Height and width of a patch in pixels.

    Returns:
        Tensor of shape (E, channels, *size).
    """
    resized = F.interpolate(kernel.float(), size, mode='bicubic', align_corners=False)
    return resized.to(kernel.dtype)


def kernel_of_bands(kernel: Tensor, channels: int) -> Tensor:
    """A patch embedding's kernel for images of other bands than the RGB that it was trained on.

    As timm does it (huggingface/pytorch-image-models, timm/models/_manipulate.py,
    `adapt_input_conv`): for one band the sum over red, green and blue, which is what the network
    computes of a grey image; for N the kernels of red, green and blue in turn, times 3 / N, so that
    outputs keep their size.

    Args:
        kernel: (E, 3, height, width).
        channels: N.

    Returns:
        Tensor of shape (E, N, height, width).

    Raises:
        ValueError: If the kernel is of other bands than RGB.
    """
    if kernel.shape[1] != RGB:
        raise UserError(
            f'the checkpoint takes {kernel.shape[1]} bands ({KERNEL} is {tuple(kernel.shape)} '
            f'instead of having {channels}), and only weights of RGB can begin a network of other '
            f'bands: set model.backbone.in_channels={kernel.shape[1]}, or take another checkpoint'
        )
    full = kernel.float()
    if channels == 1:
        adapted = full.sum(dim=1, keepdim=True)
    else:
        adapted = full[:, [band % RGB for band in range(channels)]] * (RGB / channels)
    return adapted.to(kernel.dtype)


def fit_kernel(kernel: Tensor, shape: Sequence[int]) -> Tensor:
    """A patch embedding's kernel for other bands and another size of patches, as the log says.

    Args:
        kernel: (E, channels, height, width).
        shape: Of the kernel of the network.

    Returns:
        Tensor of shape (E, *shape[1:]): `kernel_of_bands` and `resize_patch_kernel`, where needed.

    Raises:
        ValueError: If the kernel is of other bands, and not of RGB.
    """
    _, channels, *size = shape
    if kernel.shape[1] != channels:
        kernel = kernel_of_bands(kernel, channels)
        how = 'summed over' if channels == 1 else f'repeated in turn, times 3/{channels}, from'
        print_log(
            f'weights of RGB begin a network of {channels} band{"s" * (channels > 1)}: the kernel '
            f'of the patches is {how} red, green and blue',
            logger='current',
        )
    if list(kernel.shape[2:]) != size:
        print_log(
            f'the kernel of {kernel.shape[-1]} px patches is interpolated to {size[-1]} px',
            logger='current',
        )
        kernel = resize_patch_kernel(kernel, tuple(size))
    return kernel


def check_fits(
    model: nn.Module, state_dict: dict[str, Tensor], allowed: Iterable[str] = ()
) -> None:
    """Make sure that weights are those of a model, name by name and shape by shape.

    Absolute positions may have another grid: the backbone resizes them. Extra states, such as the
    look-up of iRPE, are left to the modules that they are of.

    Args:
        model: The network to load into.
        state_dict: The weights, as `find_weights` returns them.
        allowed: Regular expressions of whole names that may be missing or unexpected.

    Raises:
        ValueError: If anything is missing, unexpected, or of another shape.
    """
    problems = find_misfits(model, state_dict, allowed)
    if any(problems.values()):
        listed = '; '.join(
            f'{len(names)} {kind}: {", ".join(names[:4])}{", ..." if len(names) > 4 else ""}'
            for kind, names in problems.items()
            if names
        )
        raise UserError(
            f'the checkpoint holds another network than the config describes ({listed}): use the '
            'config that it was made with, or another checkpoint'
        )


def find_misfits(
    model: nn.Module, state_dict: dict[str, Tensor], allowed: Iterable[str] = ()
) -> dict[str, list[str]]:
    """What `check_fits` complains of: names by kind, with their shapes behind them."""
    given, expected = (
        {name: value for name, value in weights.items() if not name.endswith('._extra_state')}
        for weights in (state_dict, model.state_dict())
    )

    def not_allowed(names: set[str]) -> list[str]:
        return sorted(n for n in names if not any(re.fullmatch(p, n) for p in allowed))

    return {
        'missing': not_allowed(set(expected) - set(given)),
        'unexpected': not_allowed(set(given) - set(expected)),
        'of another shape': [
            f'{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}'
            for name, value in expected.items()
            if name in given
            and given[name].shape != value.shape
            and not (name.endswith('pos_embed') and given[name].shape[-1] == value.shape[-1])
        ],
    }
