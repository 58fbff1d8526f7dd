"""Features of images: of the cls token, of the mean of the patches, or as maps."""

import copy
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.utils import ProgressBar, to_2tuple
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from adpe_mm.datasets import (
    UnreadableImage,
    ValueRange,
    by_bands,
    check_value_range,
    extensions,
    find_images,
    read_image,
    start_worker,
    stated_channels,
)
from adpe_mm.errors import UserError
from adpe_mm.models import AdPEViT, MultiCropPreprocessor, check_statistics

OUTS = ('cls', 'mean', 'maps')
Features = np.ndarray | list[np.ndarray]


def central_crop(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resize and cut an image as ImageNet's evaluation does.

    Args:
        image: RGB, or a mask.
        size: (h, w) of the crop in pixels. The short edge becomes 256/224 of its longer side first.
        resample: How; of a mask to the nearest pixel.
    """
    edge = round(max(size) * 256 / 224)
    short = min(image.size)
    width, height = (int(edge * side / short) for side in image.size)
    image = image.resize((width, height), resample)
    left, top = round((width - size[1]) / 2), round((height - size[0]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


class ImagesInOrder(Dataset):
    """Images one after the other, cut by `central_crop`.

    Args:
        images: Paths, or (N, H, W, channels) uint8.
        size: (h, w) in pixels.
        value_range: (low, high) of files that have not 8 bits: see `read_image`.
        channels: Number of bands; None for RGB.
    """

    def __init__(
        self,
        images: list[str] | np.ndarray,
        size: tuple[int, int],
        value_range: ValueRange,
        channels: int | None = None,
    ) -> None:
        self.paths = self.pixels = None
        if isinstance(images, np.ndarray):
            self.pixels = images
        else:  # one buffer: worker processes would copy a list as they read it
            self.paths = np.array([os.fsencode(path) for path in images])
        self.size = size
        self.value_range = check_value_range(value_range)
        self.channels = channels

    def __len__(self) -> int:
        return len(self.pixels if self.paths is None else self.paths)

    def key(self, index: int) -> str | int:
        """The path of an image, or its index in the array."""
        return index if self.paths is None else os.fsdecode(self.paths[index])

    def __getitem__(self, index: int) -> tuple[str | int, Tensor | str]:
        """The key of an image, and its (h, w, channels) uint8 pixels, or why it cannot be read."""
        key = self.key(index)
        try:
            if self.paths is None:
                pixels = self.pixels[index]
            else:
                pixels = read_image(key, self.value_range, channels=self.channels)
        except UnreadableImage as error:
            return key, str(error)
        crop = by_bands(partial(central_crop, size=self.size), pixels)
        return key, torch.from_numpy(crop)


def _collate(samples: list[tuple]) -> tuple[list, Tensor | None, list[tuple]]:
    """Keys and pixels (B, 1, channels, h, w) of what could be read (or None), and the rest."""
    read = [(key, pixels) for key, pixels in samples if torch.is_tensor(pixels)]
    unreadable = [(key, reason) for key, reason in samples if not torch.is_tensor(reason)]
    if not read:
        return [], None, unreadable
    keys, pixels = zip(*read, strict=True)
    return list(keys), default_collate(pixels).permute(0, 3, 1, 2).unsqueeze(1), unreadable


def _check_batch(images: np.ndarray | Tensor, in_channels: int) -> None:
    array = isinstance(images, np.ndarray)
    channels = images.shape[-1 if array else 1] if images.ndim == 4 else None
    kind = 'RGB' if in_channels == 3 else 'which the network takes,'
    if array and (images.dtype != np.uint8 or channels != in_channels):
        wanted = f'an array of images must be (N, H, W, {in_channels}) uint8, {kind} from 0 to 255'
    elif not array and channels is None:
        wanted = 'a tensor of images must be (N, channels, H, W)'
    elif not array and images.dtype == torch.uint8 and channels != in_channels:
        wanted = f'a tensor of uint8 images must be (N, {in_channels}, H, W), {kind} from 0 to 255'
    elif not array and images.dtype != torch.uint8 and not images.is_floating_point():
        wanted = 'a tensor of images must be uint8 from 0 to 255, or floats that are normalised'
    elif not len(images):
        wanted = 'there must be an image at least'
    else:
        return
    raise UserError(f'{wanted}, got {tuple(images.shape)} {images.dtype}')


def _loader(
    images: str | Path | Sequence[str | Path] | np.ndarray | Tensor,
    size: tuple[int, int],
    batch_size: int,
    num_workers: int | None,
    pin_memory: bool,
    value_range: ValueRange,
    channels: int | None,
) -> DataLoader:
    """Batches of `_collate`, of images given in any way but as floats."""
    if torch.is_tensor(images):
        images = images.permute(0, 2, 3, 1).cpu().numpy()
    elif not isinstance(images, np.ndarray):
        names = [images] if isinstance(images, str | Path) else images
        images = find_images(names, extensions(channels))
        if not images:
            raise UserError('the list of images is empty')
    dataset = ImagesInOrder(images, size, value_range, channels)
    if num_workers is None:
        cores = len(os.sched_getaffinity(0))
        num_workers = cores if dataset.paths is not None and len(dataset) > batch_size else 0
    return DataLoader(
        dataset,
        batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
    )


def _normalised(loader: DataLoader, preprocessor: MultiCropPreprocessor) -> Iterator[tuple]:
    """Of each batch keys, the network's inputs (B, channels, h, w), and how many were seen."""
    found = 0
    for keys, pixels, unreadable in loader:
        for key, reason in unreadable:
            print_log(f'skipped {key}: {reason}', logger='current', level=logging.WARNING)
        found += len(keys)
        if keys:
            yield keys, preprocessor(dict(inputs=pixels))['inputs'], len(keys) + len(unreadable)
    if not found:
        raise UserError(f'none of the {len(loader.dataset)} images can be read')


def _parts(model: nn.Module) -> tuple[AdPEViT, dict]:
    """The backbone of a network, and the mean and std that it was trained with, if it says so."""
    backbone = getattr(model, 'backbone', model)
    if not isinstance(backbone, AdPEViT):
        raise UserError(
            f'features are those of an AdPEViT, or of a network with one as its backbone, not of '
            f'{type(model).__name__}: get one with adpe_mm.get_model'
        )
    given = getattr(model, 'data_preprocessor', None)
    names = [name for name in ('mean', 'std') if torch.is_tensor(getattr(given, name, None))]
    return backbone, {name: getattr(given, name).flatten().tolist() for name in names}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _split(images: Tensor, batch_size: int) -> Iterator[tuple]:
    """What `_normalised` yields, of a tensor that is normalised."""
    keys = range(len(images))
    for i in range(0, len(images), batch_size):
        inputs = images[i : i + batch_size]
        yield list(keys[i : i + batch_size]), inputs, len(inputs)


def _mean(backbone: AdPEViT, maps: Tensor, block: int) -> Tensor:
    """(B, E) mean of the patches, normalised if it is the one that a classifier's head has."""
    mean = maps.mean(dim=(2, 3))
    is_last = block == backbone.num_layers - 1
    return backbone.ln2(mean) if is_last and hasattr(backbone, 'ln2') else mean


def iterate_features(
    model: nn.Module,
    images: str | Path | Sequence[str | Path] | np.ndarray | Tensor,
    out: str = 'mean',
    layers: int | Sequence[int] | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    size: int | tuple[int, int] | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
    value_range: ValueRange = None,
) -> Iterator[tuple[Features, list]]:
    """`extract_features` batch by batch, in memory that does not grow with the features.

    It takes the same arguments and raises the same errors.

    Yields:
        Features of a batch and what they are of, as `extract_features` returns those of all.
    """
    backbone, statistics = _parts(model)
    if out not in OUTS:
        raise UserError(f"out must be one of {OUTS}, got '{out}'")
    if out == 'cls' and not backbone.num_extra_tokens:
        raise UserError("the network has no cls token: take out='mean' or out='maps'")
    if batch_size < 1:
        raise UserError(f'batch_size must be at least 1, got {batch_size}')
    # The same network with other outputs: modules and parameters are shared.
    view = copy.copy(backbone)
    view.out_type = 'cls_token' if out == 'cls' else 'featmap'
    view.out_indices = view.block_indices('layers', -1 if layers is None else layers)
    if isinstance(images, np.ndarray | Tensor):
        _check_batch(images, backbone.in_channels)
    normalised = torch.is_tensor(images) and images.is_floating_point()
    if normalised and images.shape[1] != backbone.in_channels:
        raise UserError(
            f'the images have {images.shape[1]} channels and the network takes '
            f'{backbone.in_channels}: give it a tensor of normalised floats (N, channels, H, W)'
        )
    if device is not None:
        model.to(device)
    weight = backbone.pos_embed
    if normalised:
        number, batches = len(images), _split(images, batch_size)
    else:
        crop = to_2tuple(backbone.patch_embed.init_input_size if size is None else size)
        channels = stated_channels(backbone.in_channels)
        loader = _loader(
            images, crop, batch_size, num_workers, weight.is_cuda, value_range, channels
        )
        preprocessor = MultiCropPreprocessor(**statistics)
        check_statistics(preprocessor, backbone.in_channels)
        preprocessor.to(weight.device)
        number, batches = len(loader.dataset), _normalised(loader, preprocessor)
    bar = ProgressBar(number, file=sys.stderr) if progress else None
    with _evaluating(backbone):
        for keys, inputs, seen in batches:
            with torch.no_grad():
                outs = view(inputs.to(weight))
                if out == 'mean':
                    pairs = zip(outs, view.out_indices, strict=True)
                    outs = [_mean(backbone, maps, block) for maps, block in pairs]
            features = [x.float().cpu().numpy() for x in outs]
            if bar:
                bar.update(seen)
            yield (features[0] if layers is None or isinstance(layers, int) else features), keys
    if bar:
        sys.stderr.write('\n')


def extract_features(
    model: nn.Module,
    images: str | Path | Sequence[str | Path] | np.ndarray | Tensor,
    out: str = 'mean',
    layers: int | Sequence[int] | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    size: int | tuple[int, int] | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
    value_range: ValueRange = None,
) -> tuple[Features, list]:
    """Features of images, by a network in evaluation mode.

    Files and uint8 images are resized, bicubically, so that the short edge is 256/224 of `size`,
    cut to `size` in the centre, and normalised with the mean and std that the network was trained
    with (``model.data_preprocessor``; ImageNet's by default). JPEG, PNG, WebP, BMP and TIFF are
    read as in pretraining (`adpe_mm.datasets.read_image`): grey, palette, CMYK and 16-bit become
    RGB, and an EXIF orientation is applied; for a network of other bands, those bands are read,
    from arrays (.npy) too. Files that cannot be read are named in the log and left out.

    N images, E width of the network, R, C rows and columns of the patch grid.

    Args:
        model: An `AdPEViT`, such as `get_model` returns, or a network with one as its backbone.
        images: One of

            - a folder (with all below it), a file, or a list of both;
            - a numpy array (N, H, W, channels), uint8, RGB (or the network's bands) from 0 to 255;
            - a tensor (N, channels, H, W), uint8, likewise;
            - a tensor of floats (N, channels, H, W), normalised already: it is taken as it is.
        out: 'mean' of the patches (N, E), with its norm in a fine-tuned classifier; 'cls', the cls
            token (N, E); or 'maps', the patches at their places (N, E, R, C).
        layers: Which block's output, 0 for the first and -1 for the last; a list for several; None
            for the last. The last one is normalised if the network ends with a norm.
        batch_size: Images per step.
        num_workers: Processes that load files; None for one per core.
        size: (h, w) or one side of the crop in pixels; None for the network's own input size, which
            after pretraining is that of a crop (AdPE: 112). Positions are interpolated.
        device: Moves the network there first; None leaves it where it is.
        progress: Whether a bar is drawn on stderr.
        value_range: (low, high), which become 0 and 255 in files of 16 bits, signed or of floats,
            or such a pair for each band; None for the percentiles 1 and 99 of each. As the network
            was trained.

    Returns:
        Features, float32, or a list with those of each of a list of `layers`; and the paths that
        the rows are of, or their indices in an array or tensor.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in it.
        ValueError: If an option or a batch is not one of the above, or nothing can be read.
    """
    batches = iterate_features(
        model, images, out, layers, batch_size, num_workers, size, device, progress, value_range
    )
    parts, keys = zip(*batches, strict=True)
    if isinstance(parts[0], list):
        features = [np.concatenate(part) for part in zip(*parts, strict=True)]
    else:
        features = np.concatenate(parts)
    return features, list(chain(*keys))
