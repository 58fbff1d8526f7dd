"""What a resumed run takes from its checkpoint, and what from its present config."""

from mmengine.runner import Runner

from adpe_mm.checkpoints import find_resumable
from adpe_mm.processes import on_main


def choose_checkpoint(runner: Runner) -> None:
    """Let a runner resume from what `find_resumable` finds: one process looks for all.

    Raises:
        FileNotFoundError: If the checkpoint that was asked for is gone.
        ValueError: If it is damaged or holds weights only; or if no good one is left.
    """
    path, remark = on_main(lambda: find_resumable(runner.work_dir, runner._load_from))
    if remark:
        runner.logger.warning(remark)
    runner._load_from = path
    runner._resume = path is not None
