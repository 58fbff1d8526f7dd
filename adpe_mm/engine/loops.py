"""An epoch-based loop that continues in the middle of an epoch."""

import torch
from mmengine.runner import EpochBasedTrainLoop

from adpe_mm.registry import LOOPS


@LOOPS.register_module()
class ExactEpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's `EpochBasedTrainLoop`, which resumes at any iteration.

    mmengine begins the interrupted epoch anew, and so visits pictures twice and lets iterations
    and epochs drift apart. Here the sampler skips what was visited. It must have `skip`, as
    `EpochSampler` has.

    Raises:
        ValueError: If the number of iterations an epoch is another than before the stop, because
            the global batch or the data changed: the schedule of lr would no longer fit.
    """

    def run(self) -> torch.nn.Module:
        """Train; continues where the checkpoint stopped."""
        length = len(self.dataloader)
        if length == 0:
            raise ValueError(
                f'the {len(self.dataloader.dataset)} pictures do not fill one batch: lower '
                'train_dataloader.batch_size or the number of processes, or add pictures'
            )
        hub = self.runner.message_hub
        before = hub.get_info('epoch_length') if 'epoch_length' in hub.runtime_info else length
        if self._iter and before != length:
            raise ValueError(
                f'the run had {before} iterations an epoch and now has {length}: resume with the '
                'same pictures and global batch (processes x train_dataloader.batch_size), or '
                'start anew from its weights with load_from'
            )
        hub.update_info('epoch_length', length)
        # A checkpoint of the last iteration of an epoch still counts that epoch as unfinished.
        self._epoch = self._iter // length
        return super().run()

    def run_epoch(self) -> None:
        """Iterate the rest of one epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        start = self._iter - self._epoch * len(self.dataloader)
        if start:
            self.dataloader.sampler.skip(start * self.dataloader.batch_size)
        for idx, data_batch in enumerate(self.dataloader, start):
            self.run_iter(idx, data_batch)

        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
