"""Reconstructions, and what the adversary does: while pretraining runs, and of a checkpoint."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image, ImageOps

from adpe_mm.checkpoints import check_fits, load_weights, unwrap
from adpe_mm.datasets import (
    SampleKey,
    UnreadableImage,
    by_bands,
    check_value_range,
    first_pipeline,
    read_image,
)
from adpe_mm.engine.sharding import gather, scatter
from adpe_mm.errors import UserError
from adpe_mm.models import MAEPlus, NoAdversary
from adpe_mm.registry import HOOKS, MODELS

from .drawing import plot_adversary, reconstruction_rows, reconstruction_sheet
from .probes.hook import undisturbed


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Shows what the network makes of some crops, and where the adversary moved positions.

    The images go to all of the visualizer's backends: ``vis_data/vis_image/`` of the run's
    folder, and TensorBoard. Crops and masks are the same each time, after a stop too, so that the
    epochs can be set side by side (`adpe_mm.evaluation.report`): one crop each of images spread
    over the data set. No generator of the run is touched: the run is the same with and without
    the hook.

    Args:
        interval: Epochs between images; the last epoch has them in any case.
        num_images: Crops per sheet.
        bands: Which three are shown, see `to_pixels`.
    """

    # Before the checkpoint of the epoch, so that a run that is killed while it draws does it again.
    priority = 'LOW'

    def __init__(
        self, interval: int = 1, num_images: int = 8, bands: Sequence[int] | None = None
    ) -> None:
        self.interval = interval
        self.num_images = num_images
        self.bands = bands
        self.samples: list[dict] = []
        self.failure: Exception | None = None

    def before_train_epoch(self, runner: Runner) -> None:
        self._fail()

    def after_train(self, runner: Runner) -> None:
        self._fail()

    def _fail(self) -> None:
        """Raise what went wrong in drawing, now that the checkpoint of the epoch is saved."""
        if self.failure is not None:
            raise self.failure

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            dataset = runner.train_dataloader.dataset
            with undisturbed():
                chosen = spread(range(len(dataset)), self.num_images)
                self.samples = [dataset[SampleKey(index, 0, 0)] for index in chosen]

    def after_train_epoch(self, runner: Runner) -> None:
        last = runner.epoch + 1 == runner.max_epochs
        if not (last or self.every_n_epochs(runner, self.interval)):
            return
        gather(runner.model)
        if is_main_process():
            try:
                self._draw(runner)
            except Exception as error:
                self.failure = error
        scatter(runner.model)

    def _draw(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        batch = runner.train_dataloader.collate_fn(self.samples)
        inputs = model.data_preprocessor(batch)['inputs']
        inputs = inputs[:: len(inputs) // len(self.samples)]  # the first crop of each image
        model.eval()
        rows = reconstruct(model, inputs, bands=self.bands)
        model.train()
        epoch = runner.epoch + 1
        runner.visualizer.add_image('reconstruction', reconstruction_sheet(rows), step=epoch)
        if not isinstance(model.adversary, NoAdversary):
            image = plot_adversary(model.adversary, grid_of(model, inputs))
            runner.visualizer.add_image('adversary', image, step=epoch)


def grid_of(model: MAEPlus, inputs: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the patches of (B, channels, H, W)."""
    rows, columns = (side // model.backbone.patch_size for side in inputs.shape[2:])
    return rows, columns


def reconstruct(
    model: MAEPlus, inputs: torch.Tensor, seed: int = 0, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Mask images and predict what is missing.

    Args:
        model: In evaluation mode.
        inputs: (B, channels, H, W), normalised.
        seed: Chooses the masks; no generator but one of its own is used.
        bands: Which three are shown, see `to_pixels`.

    Returns:
        One row for each image: see `reconstruction_rows`.
    """
    rows, columns = grid_of(model, inputs)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(inputs), rows * columns, generator=generator).to(inputs.device)
    prediction, masked = model.reconstruct(inputs, noise)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    return reconstruction_rows(inputs, masked, prediction, mean, std, bands)


def load_model(cfg: Config, checkpoint: str) -> MAEPlus:
    """The pretraining network of a config with the weights of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another network, or the config is of no pretraining.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    if not isinstance(model, MAEPlus):
        raise UserError('the config is of no pretraining: it must have model.type adpe_mm.MAEPlus')
    weights = load_weights(checkpoint)
    check_fits(model, weights)
    model.load_state_dict(weights)
    return model.eval()


def spread(items: Sequence, limit: int) -> list:
    """At most so many, spread evenly over all."""
    chosen = np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int)
    return [items[i] for i in chosen]


def central_part(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, bands) uint8, the largest central part of (H, W, bands) of that shape, resized."""

    def fit(part: Image.Image) -> Image.Image:
        return ImageOps.fit(part, size[::-1], Image.Resampling.BICUBIC)

    return by_bands(fit, pixels)


def open_images(cfg: Config, paths: list[str], size: tuple[int, int]) -> torch.Tensor:
    """(B, 1, channels, h, w) uint8 of the central parts; names on stdout what cannot be read.

    They are read as in the training of the config: as many bands, mapped to 8 bits likewise.
    """
    training = cfg.get('train_dataloader')
    steps = first_pipeline(training.dataset) if training else []
    value_range = next((step.value_range for step in steps if 'value_range' in step), None)
    channels = next((step.channels for step in steps if 'channels' in step), None)
    images = []
    for path in paths:
        try:
            pixels = read_image(path, check_value_range(value_range), channels=channels)
        except UnreadableImage as error:
            print(f'skipped {path}: {error}')
            continue
        fitted = central_part(pixels, size)
        images.append(torch.from_numpy(fitted).permute(2, 0, 1).unsqueeze(0))
    if not images:
        raise UserError('none of the images can be read')
    return torch.stack(images)
