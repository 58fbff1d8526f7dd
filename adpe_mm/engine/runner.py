"""A runner that scales lr by the real global batch."""

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from adpe_mm.registry import RUNNERS


@RUNNERS.register_module()
class AdPERunner(Runner):
    """mmengine's `Runner`; the docstrings say what differs."""

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale every lr, the adversary's too, by the global batch over ``base_batch_size``.

        The global batch counts gradient accumulation, which mmengine's runner leaves out.
        """
        if not (auto_scale_lr or {}).get('enable', False):
            return
        loader = self._train_dataloader
        per_process = loader['batch_size'] if isinstance(loader, dict) else loader.batch_size
        accumulated = optim_wrapper._accumulative_counts
        batch, base = self.world_size * per_process * accumulated, auto_scale_lr['base_batch_size']
        for group in optim_wrapper.param_groups:
            group['lr'] *= batch / base
        rates = sorted({group['lr'] for group in optim_wrapper.param_groups})
        self.logger.info(
            f'global batch {batch} = {self.world_size} processes x {per_process} x {accumulated} '
            f'accumulated; lr scaled by {batch} / {base} to '
            + ' ... '.join(f'{rate:.4g}' for rate in {rates[0], rates[-1]})
        )
