"""Refuses a checkpoint of another network."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from adpe_mm.registry import HOOKS
from adpe_mm.utils.checkpoint import check_fits


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raises where mmengine would only log that a checkpoint does not fit, and train on.

    Raises:
        ValueError: When a checkpoint is loaded or resumed that is of another architecture.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_fits(model, checkpoint.get('state_dict', checkpoint))
