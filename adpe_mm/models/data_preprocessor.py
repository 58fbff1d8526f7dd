"""Mirroring and normalisation of crops, on the device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from adpe_mm.errors import UserError
from adpe_mm.registry import MODELS


def check_statistics(preprocessor: BaseDataPreprocessor, channels: int) -> None:
    """Make sure that mean and std are of as many channels as a network takes, or of all alike.

    Args:
        preprocessor: Of any library; one without mean does not normalise.
        channels: Of the network.

    Raises:
        ValueError: If they are not.
    """
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        if torch.is_tensor(values) and values.numel() not in (1, channels):
            raise UserError(
                f'model.data_preprocessor.{name} has {values.numel()} values, and '
                f'model.backbone.in_channels is {channels}: state as many, which '
                'python tools/analysis_tools/channel_statistics.py CONFIG measures'
            )


@MODELS.register_module('BandsPreprocessor')
def bands_preprocessor(
    base: str, mean: Sequence[float], std: Sequence[float], **options
) -> BaseDataPreprocessor:
    """A preprocessor of mmseg or mmdet for images of any number of bands.

    They insist on one or three values of mean and std, and exchange the first and the third channel
    of whatever they get.

    Args:
        base: Its type.
        mean: Mean of each band, from 0 to 255.
        std: Standard deviation of each band, from 0 to 255.
        **options: Its other options; those that exchange channels are ignored.
    """
    options.update(bgr_to_rgb=False, rgb_to_bgr=False)
    preprocessor = MODELS.build(dict(options, type=base))
    preprocessor.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
    preprocessor.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
    preprocessor._enable_normalize = True
    return preprocessor


@MODELS.register_module()
class MultiCropPreprocessor(BaseDataPreprocessor):
    """Moves uint8 crops to the device, mirrors and normalises them there.

    Args:
        mean: Mean of each band, from 0 to 255; of RGB, ImageNet's by default.
        std: Standard deviation of each band, from 0 to 255.
        non_blocking: Whether the copy may overlap with computation (from pinned memory).
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict[str, Tensor | None]:
        """Mirror and normalise a batch.

        Args:
            data: ``inputs`` (B, C, bands, h, w), uint8, C crops per image; ``mirrored`` (B, C),
                bool of numpy or torch, True where a crop is to be mirrored; without it none is.
            training: Unused.

        Returns:
            ``inputs`` (B * C, bands, h, w), float32, and ``data_samples``, None.
        """
        crops = self.cast_data(data['inputs']).flatten(0, 1)
        if 'mirrored' in data:
            mirrored = self.cast_data(torch.as_tensor(data['mirrored'])).view(-1, 1, 1, 1)
            crops = torch.where(mirrored, crops.flip(-1), crops)
        # They come pixel by pixel, as they were decoded; the network takes them plane by plane.
        crops = crops.to(torch.float32, memory_format=torch.contiguous_format)
        return dict(inputs=(crops - self.mean) / self.std, data_samples=None)
