"""What a resumed run takes from its checkpoint, and what from its present config."""

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from adpe_mm.checkpoints import find_resumable
from adpe_mm.errors import UserError


def choose_checkpoint(runner: Runner) -> None:
    """Let a runner resume from what `find_resumable` finds: one process looks for all.

    Raises:
        FileNotFoundError: If the checkpoint that was asked for is gone.
        ValueError: If it is damaged or holds weights only; or if no good one is left.
    """
    found = [None, None]
    if is_main_process():
        try:
            found = [*find_resumable(runner.work_dir, runner._load_from)]
        except UserError as error:
            found = [None, error]
    broadcast_object_list(found)
    path, remark = found
    if isinstance(remark, UserError):
        raise remark
    if remark:
        runner.logger.warning(remark)
    runner._load_from = path
