"""Pictures of reconstructions and of the adversary while pretraining runs."""

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from adpe_mm.models.adversaries import NoAdversary
from adpe_mm.registry import HOOKS
from adpe_mm.utils.visualize import plot_adversary, reconstruction_rows, reconstruction_sheet


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Shows what the network makes of some crops, and where the adversary moved positions.

    The pictures go to all of the visualizer's backends: ``vis_data/vis_image/`` of the run's
    folder, and TensorBoard. The crops are the first of the batch, the masks always the same ones,
    and no generator of the run is touched, so that the run is the same with and without the hook.

    Args:
        interval: Epochs between pictures; the last epoch has them in any case.
        num_images: Crops a sheet.
    """

    # After the checkpoint of the epoch: pictures that cannot be drawn or written never cost it.
    priority = 'LOWEST'

    def __init__(self, interval: int = 1, num_images: int = 8) -> None:
        self.interval = interval
        self.num_images = num_images
        self.crops: dict | None = None

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.model, FullyShardedDataParallel):
            runner.logger.warning(
                'ReconstructionHook draws nothing under FSDP: one process has no whole network'
            )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        self.crops = data_batch

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        last = runner.epoch + 1 == runner.max_epochs
        if not (last or self.every_n_epochs(runner, self.interval)) or self.crops is None:
            return
        if isinstance(runner.model, FullyShardedDataParallel):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        few = {name: values[: self.num_images] for name, values in self.crops.items()}
        preprocessor = model.data_preprocessor
        inputs = preprocessor(few)['inputs'][: self.num_images]
        grid = tuple(side // model.backbone.patch_size for side in inputs.shape[2:])
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(len(inputs), grid[0] * grid[1], generator=generator).to(inputs.device)
        model.eval()
        prediction, masked = model.reconstruct(inputs, noise)
        model.train()
        rows = reconstruction_rows(inputs, masked, prediction, preprocessor.mean, preprocessor.std)
        epoch = runner.epoch + 1
        runner.visualizer.add_image('reconstruction', reconstruction_sheet(rows), step=epoch)
        if not isinstance(model.adversary, NoAdversary):
            picture = plot_adversary(model.adversary, grid)
            runner.visualizer.add_image('adversary', picture, step=epoch)
