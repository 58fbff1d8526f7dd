"""The segmentation probe: one linear layer on the patches, its scores upsampled to the pixels.

As DINOv2's linear head (Oquab et al., arXiv 2304.07193; facebookresearch/dinov2,
dinov2/eval/segmentation/models/decode_heads/linear_head.py): features are standardised, and a
linear layer gives a score per class, which is upsampled bilinearly; upsampling the features first
would give the same scores.

Letters in shapes: n images, R, C rows and columns of the patches, N = R * C, E width, K classes,
h, w height and width in pixels.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from adpe_mm.datasets import extensions, find_images, stated_channels
from adpe_mm.errors import MissingFile, UserError
from adpe_mm.models import AdPEViT

from ..features import ImagesInOrder, central_crop
from .prober import encode
from .shares import read_share, standardisation, total
from .training import train_head

PARTS = ('training', 'validation')
UNLABELLED = -1
STEPS = 400
BATCH = 16
LR = 1e-2
WEIGHT_DECAY = 1e-4


class MasksInOrder(Dataset):
    """Masks one after the other, cut as their images are.

    Args:
        paths: Of images of one channel: 0 without a label, 1, 2, ... for the classes.
        size: (h, w) in pixels.
    """

    def __init__(self, paths: list[str], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, index: int) -> Tensor | str:
        """(h, w) int64, `UNLABELLED` or a class from 0 on; or why it cannot be read."""
        try:
            with Image.open(self.paths[index]) as image:
                if image.mode not in ('L', 'P', '1', 'I', 'I;16'):
                    return f'its mask has colours (mode {image.mode}), not a number per class'
                mask = central_crop(image, self.size, Image.Resampling.NEAREST)
                return torch.from_numpy(np.array(mask).astype(np.int64)) - 1
        except OSError as error:
            return f'its mask cannot be read: {error}'


def find_masks(
    folder: str | Path, part: str, limit: int, channels: int | None = None
) -> tuple[list[str], list[str]]:
    """Images and masks of a part, spread evenly over all.

    Args:
        folder: With ``images/{training,validation}`` and, of the same names but for the ending,
            ``annotations/{training,validation}``, as ADE20K has them.
        part: 'training' or 'validation'.
        limit: How many at most.
        channels: Number of bands; None for RGB.

    Raises:
        FileNotFoundError: If a folder, or the mask of an image, is missing.
    """
    folders = [Path(folder, kind, part) for kind in ('images', 'annotations')]
    for path in folders:
        if not path.is_dir():
            raise MissingFile(
                f"there is no folder '{path}': the segmentation probe needs images and annotations "
                'with training and validation in each'
            )
    images = find_images([folders[0]], extensions(channels))
    number = min(limit, len(images))
    chosen = [images[i * len(images) // number] for i in range(number)]
    masks = [str(folders[1] / Path(p).relative_to(folders[0]).with_suffix('.png')) for p in chosen]
    missing = [mask for mask in masks if not Path(mask).is_file()]
    if missing:
        raise MissingFile(
            f"{len(missing)} images of '{folders[0]}' have no mask, such as '{missing[0]}'"
        )
    return chosen, masks


def mean_iou(counts: Tensor) -> float:
    """Mean over the classes of intersection over union, in percent.

    Args:
        counts: (K, K) pixels by true class and predicted class. A class that is neither is left
            out.
    """
    inside = counts.diagonal()
    union = counts.sum(dim=0) + counts.sum(dim=1) - inside
    return (100 * inside[union > 0] / union[union > 0]).mean().item()


def segmentation_probe(
    encoder: AdPEViT,
    folder: str | Path,
    size: tuple[int, int],
    max_train: int = 2000,
    max_val: int = 500,
    num_workers: int = 0,
    progress: bool = False,
) -> dict:
    """Fit the probe and judge it.

    Args:
        encoder: In evaluation mode, with its ``data_preprocessor``.
        folder: See `find_masks`.
        size: (h, w) that images and masks are resized and cut to, in pixels; mIoU is of these.
        max_train: Images to fit on, at most.
        max_val: Images to judge by, at most.
        num_workers: Processes that read.
        progress: Whether bars are drawn on stderr.

    Returns:
        ``miou`` in percent, ``num_train``, ``num_val``, ``num_classes`` and ``size``.

    Raises:
        FileNotFoundError: See `find_masks`.
        ValueError: If nothing can be read, or nothing is labelled.
    """
    shares, channels = [], stated_channels(encoder.in_channels)
    for part, limit in zip(PARTS, (max_train, max_val), strict=True):
        images, masks = find_masks(folder, part, limit, channels)
        pixels = read_share(
            ImagesInOrder(images, size, None, channels),
            MasksInOrder(masks, size),
            num_workers,
            progress,
        )
        shares.append(encode(encoder, pixels, f'encoding the images of {part}', progress))
    train, val = shares
    most = torch.stack([share.targets.max() for share in shares]).max()
    all_reduce(most, 'max')
    num_classes = int(most) + 1
    if num_classes < 2:
        raise UserError(
            f"the masks of '{folder}' name fewer than two classes: 0 is what has no label, and "
            'classes are 1, 2, ...'
        )
    p = encoder.patch_size
    grid_size = tuple(-(-side // p) for side in size)
    mean, deviation = (x.float() for x in standardisation(train.images))
    head = nn.Linear(train.images.shape[-1], num_classes).to(train.images.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)

    def scores(tokens: Tensor) -> Tensor:  # (n, N, E) -> (n, K, h, w)
        found = head((tokens - mean) / deviation).transpose(1, 2).unflatten(2, grid_size)
        whole = [side * p for side in grid_size]  # with the padding of the last patches
        found = F.interpolate(found, whole, mode='bilinear', align_corners=False)
        return found[..., : size[0], : size[1]]

    def loss(tokens: Tensor, masks: Tensor) -> Tensor:
        summed = F.cross_entropy(scores(tokens), masks, ignore_index=UNLABELLED, reduction='sum')
        return summed / (size[0] * size[1])

    train_head(head, train, loss, STEPS, BATCH, LR, WEIGHT_DECAY, 'the linear head', progress)
    counts = torch.zeros(num_classes**2, dtype=torch.float64, device=train.images.device)
    with torch.no_grad():
        for tokens, masks in zip(val.images.split(BATCH), val.targets.split(BATCH), strict=True):
            labelled = masks != UNLABELLED
            pairs = masks * num_classes + scores(tokens).argmax(dim=1)
            counts += pairs[labelled].bincount(minlength=num_classes**2)
    counts = total(counts).unflatten(0, (num_classes, num_classes))
    return dict(
        miou=mean_iou(counts),
        num_train=train.total,
        num_val=val.total,
        num_classes=num_classes,
        size=list(size),
    )
