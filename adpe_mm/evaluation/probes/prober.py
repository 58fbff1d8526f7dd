"""All probes of an encoder on one set of labelled images."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from mmengine.dist import get_world_size
from mmengine.utils import to_2tuple
from torch import Tensor

from adpe_mm.datasets import ValueRange
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT

from ..features import ImagesInOrder
from .attentive import attentive_predict
from .description import describe_blocks, effective_rank
from .knn import knn_predict
from .labelled import find_labelled
from .linear import fit_ridge
from .shares import BATCH, Share, accuracy, bar, gather, read_share

PROBES = ('knn', 'linear', 'attentive')
DESCRIBED = 128  # images whose attention is looked at, as many as ViT's figure is of


def normalised(encoder: AdPEViT, pixels: Tensor) -> Tensor:
    """(n, 3, h, w) uint8 -> the encoder's inputs."""
    inputs = encoder.data_preprocessor(dict(inputs=pixels.unsqueeze(1)))['inputs']
    return inputs.to(encoder.pos_embed)


@torch.no_grad()
def encode(encoder: AdPEViT, share: Share, title: str, progress: bool = False) -> Share:
    """Features of the patches, of the encoder's last block, with its norm.

    Args:
        encoder: In evaluation mode.
        share: Of pixels.
        title: Of the bar.
        progress: Whether it is drawn.

    Returns:
        The share; ``images`` are (n, N, E) float32 on the encoder's device.
    """
    view = copy.copy(encoder)
    view.out_type, view.out_indices = 'featmap', [encoder.num_layers - 1]
    shown = bar(title, len(share.images), progress)
    parts = []
    for pixels in share.images.split(BATCH):
        maps = view(normalised(encoder, pixels))[0]
        parts.append(maps.float().flatten(2).transpose(1, 2))
        if shown:
            shown.update(len(pixels))
    device = parts[0].device
    return replace(share, images=torch.cat(parts), targets=share.targets.to(device))


class Prober:
    """Judges encoders on labelled images, which are read once and kept as pixels.

    In a process group all processes call it together; each holds a share of the images, and all get
    the same results.

    Args:
        data: See `find_labelled`.
        size: (h, w) or one side of the images in pixels; None for the encoder's own input size.
        max_train: Images to fit on, at most.
        max_val: Images to judge by, at most.
        probes: Which are fitted, of 'knn', 'linear' and 'attentive'.
        num_workers: Processes that read.
        value_range: What becomes 0 and 255 in files that have not 8 bits: see `read_image`.
        channels: Number of bands of the images; None for RGB.
        progress: Whether bars are drawn on stderr.

    Raises:
        FileNotFoundError: If there are no such images.
        ValueError: If they, or an option, cannot be used.
    """

    def __init__(
        self,
        data: str | Path,
        size: int | tuple[int, int] | None = None,
        max_train: int = 5000,
        max_val: int = 2000,
        probes: Sequence[str] = PROBES,
        num_workers: int = 0,
        value_range: ValueRange = None,
        channels: int | None = None,
        progress: bool = False,
    ) -> None:
        unknown = sorted(set(probes) - set(PROBES))
        if unknown:
            raise UserError(f"there is no probe '{unknown[0]}': choose of {PROBES}")
        if min(max_train, max_val) < 1:
            raise UserError(
                f'max_train and max_val must be at least 1, got {max_train} and {max_val}'
            )
        self.images = find_labelled(data, max_train, max_val, channels)
        self.size = size
        self.probes = tuple(probes)
        self.num_workers = num_workers
        self.value_range = value_range
        self.channels = channels
        self.progress = progress
        self.read: dict[tuple, tuple[Share, Share]] = {}

    def shares(self, encoder: AdPEViT) -> tuple[Share, Share]:
        """Pixels to fit on and to judge by, of this process."""
        size = encoder.patch_embed.init_input_size if self.size is None else self.size
        size = tuple(to_2tuple(size))
        if size not in self.read:
            self.read[size] = tuple(
                read_share(
                    ImagesInOrder(split.paths, size, self.value_range, self.channels),
                    split.labels,
                    self.num_workers,
                    self.progress,
                )
                for split in (self.images.train, self.images.val)
            )
        return self.read[size]

    def __call__(self, encoder: AdPEViT) -> dict:
        """Fit the probes, and describe the features.

        Args:
            encoder: In evaluation mode, with its ``data_preprocessor``.

        Returns:
            - percent of right predictions by the name of each probe: those of k-NN and the linear
              probe see the mean of the patches;
            - ``effective_rank`` of that mean, see `effective_rank`;
            - ``attention_distance``, ``token_norm`` and ``largest_norm``, see `Blocks`;
            - ``num_train``, ``num_val``, ``num_classes``, ``embed_dims`` and ``size`` [h, w], of
              what they are of.
        """
        pixels, val_pixels = self.shares(encoder)
        num_classes = len(self.images.classes)
        train = encode(encoder, pixels, 'encoding the images to fit on', self.progress)
        val = encode(encoder, val_pixels, 'encoding the images to judge by', self.progress)
        mean, val_mean = (replace(share, images=share.images.mean(dim=1)) for share in (train, val))
        results = {}
        with torch.no_grad():
            if 'knn' in self.probes:
                predicted = knn_predict(*gather(mean), val_mean.images, num_classes)
                results['knn'] = accuracy(predicted, val.targets)
            if 'linear' in self.probes:
                ridge = fit_ridge(mean.images, mean.targets, num_classes)
                results['linear'] = accuracy(ridge(val_mean.images).argmax(1), val.targets)
        if 'attentive' in self.probes:
            predicted = attentive_predict(train, val, encoder.num_heads, num_classes, self.progress)
            results['attentive'] = accuracy(predicted, val.targets)
        with torch.no_grad():
            results['effective_rank'] = effective_rank(mean.images)
        few = val_pixels.images[: -(-DESCRIBED // get_world_size())]
        results.update(asdict(describe_blocks(encoder, normalised(encoder, few))))
        return dict(
            results,
            num_train=train.total,
            num_val=val.total,
            num_classes=num_classes,
            embed_dims=encoder.embed_dims,
            size=list(pixels.images.shape[2:]),
        )
