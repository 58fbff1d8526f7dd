"""Mirroring and normalisation of crops, on the device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from adpe_mm.registry import MODELS


@MODELS.register_module()
class MultiCropPreprocessor(BaseDataPreprocessor):
    """Moves uint8 crops to the device, mirrors and normalises them there.

    Args:
        mean: Mean of each channel (RGB), from 0 to 255. ImageNet's by default.
        std: Standard deviation of each channel, from 0 to 255.
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
            data: ``inputs`` (B, C, 3, h, w), uint8, C crops per image; ``mirrored`` (B, C), bool of
                numpy or torch, True where a crop is to be mirrored; without it none is.
            training: Unused.

        Returns:
            ``inputs`` (B * C, 3, h, w), float32, and ``data_samples``, None.
        """
        crops = self.cast_data(data['inputs']).flatten(0, 1)
        if 'mirrored' in data:
            mirrored = self.cast_data(torch.as_tensor(data['mirrored'])).view(-1, 1, 1, 1)
            crops = torch.where(mirrored, crops.flip(-1), crops)
        # They come pixel by pixel, as they were decoded; the network takes them plane by plane.
        crops = crops.to(torch.float32, memory_format=torch.contiguous_format)
        return dict(inputs=(crops - self.mean) / self.std, data_samples=None)
