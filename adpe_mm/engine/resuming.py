"""What a resumed run takes from its checkpoint, and what from its present config.

Weights, the optimiser's state, the order of the images and the seed are the checkpoint's. Settings
are the present ones, wherever a trained network can go on with them; docs/guides/resuming.md has
the rule. Where nothing has changed, nothing of the checkpoint is touched, and the run goes on bit
for bit.
"""

import re
import warnings
from pathlib import Path

from mmengine.hooks import CheckpointHook
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from adpe_mm.checkpoints import find_resumable, read_settings
from adpe_mm.errors import UserError
from adpe_mm.processes import on_main

# Settings that the course of a training depends on, and those among them that it does not.
COMPARED = (
    'model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'auto_scale_lr',
    'custom_hooks',
)  # fmt: skip
_WITHOUT_EFFECT = (
    r'(.*\.)?(init_cfg|test_cfg)(\..*)?|train_cfg\.val_(interval|begin)|'
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)'
)
# What makes another network of the same arrays, or another meaning of the optimiser's state.
_FIXED = (
    r'optim_wrapper\.optimizer\.type|model\.type|'
    r'model\.(backbone|neck|(.*_)?head)(\..*)?\.(type|arch(\..*)?|num_heads|num_layers|patch_size|'
    r'position|rpe_lookup|rpe_scaled_query|with_cls_token|out_type|out_indices|final_norm|'
    r'window_size|global_blocks)'
)
_NO_NETWORK = r'.*(loss|assigner|sampler|coder|generator).*'  # whose types may change
_MOVING = ('last_step', '_global_step', '_last_value', 'verbose')  # in the state of a schedule
_NEW_RUN = 'or start a new run from its weights with load_from'


def choose_checkpoint(runner: Runner) -> None:
    """Let a runner resume from what `find_resumable` finds: one process looks for all.

    Raises:
        FileNotFoundError: If the checkpoint that was asked for is gone.
        ValueError: If it is damaged or holds weights only; or if no good one is left.
    """
    path, remark = on_main(lambda: find_resumable(runner.work_dir, runner._load_from))
    if remark:
        runner.logger.warning(remark)
    runner._load_from, runner._resume = path, path is not None


def take_over(runner: Runner, checkpoint: dict) -> None:
    """Write the settings of a runner into the checkpoint that it is about to resume from.

    Args:
        runner: With optimiser and schedules as they are at the beginning of a training.
        checkpoint: What `read_checkpoint` returns; it is changed.

    Raises:
        ValueError: If a setting has changed that a resumed run cannot change, or the run has
            trained for longer than it is to.
    """
    compare_settings(runner, checkpoint)
    done = checkpoint['meta']['iter']
    if done > runner.train_loop.max_iters:
        raise UserError(
            f'the run has trained {done} iterations already, and train_cfg ends it after '
            f'{runner.train_loop.max_iters}: raise max_epochs or max_iters, {_NEW_RUN}'
        )
    _rename_files(runner, checkpoint)
    optimizer = checkpoint.get('optimizer')
    if optimizer is None or not isinstance(runner.param_schedulers, list | None):
        return
    if optimizer.get('loss_scaler') == {}:
        del optimizer['loss_scaler']  # of bfloat16: float16 begins with a scale of its own
    groups = [*optimizer['param_groups']]
    if optimizer.get('base_param_settings') is not None:
        groups.append(optimizer['base_param_settings'])
    _check_groups(runner, optimizer, groups)
    schedules = runner.param_schedulers or []
    stored = checkpoint.get('param_schedulers') or []
    present = runner.optim_wrapper.param_groups
    names = {schedule.param_name for schedule in schedules}
    same = all(
        _same(new, old, {'params', *names}) for new, old in zip(present, groups, strict=True)
    )
    if same and len(schedules) == len(stored):
        now = [schedule.state_dict() for schedule in schedules]
        if all(_same(new, old, _MOVING) for new, old in zip(now, stored, strict=True)):
            return
    fast_forward(runner, done)
    before = max(group['lr'] for group in groups)
    for old, new in zip(groups, present, strict=True):
        params = old['params']
        old.clear()
        old.update(new, params=params)
    checkpoint['param_schedulers'] = [schedule.state_dict() for schedule in schedules]
    after = max(group['lr'] for group in groups)
    runner.logger.warning(
        f'resumed with the optimiser and the schedules of the present settings: lr at iteration '
        f'{done} is {after:.4g} (was {before:.4g})'
    )


def compare_settings(runner: Runner, checkpoint: dict) -> None:
    """Say by key which settings have changed since a checkpoint was saved.

    Raises:
        ValueError: If a resumed run cannot change one of them.
    """
    before = read_settings(checkpoint)
    if not before:
        return
    # As text and back: the same form as in the checkpoint.
    now = read_settings(dict(meta=dict(cfg=runner.cfg.pretty_text)))
    before, now = (_flat({key: s.get(key) for key in COMPARED}) for s in (before, now))
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new or re.fullmatch(_WITHOUT_EFFECT, key):
            continue
        if re.fullmatch(_FIXED, key) and not re.fullmatch(_NO_NETWORK, key):
            instead = 'or start a new run' if key.startswith('model.') else _NEW_RUN
            raise UserError(
                f'the run has been trained with {key}={old!r}, and cannot go on with {new!r}: '
                f'resume it with the former value, {instead}'
            )
        runner.logger.warning(f'resumed with another {key}: {new!r} (was {old!r})')


def fast_forward(runner: Runner, iterations: int) -> None:
    """Bring schedules from the beginning of a training to where it is after some iterations.

    They have no closed form (mmengine's multiply by a factor at each step), and so take each of the
    steps that the training would have taken: a million in half a minute.

    Raises:
        ValueError: If a schedule follows a metric.
    """
    for schedule in runner.param_schedulers or []:
        if getattr(schedule, 'need_val_args', False):
            raise UserError(
                f'{type(schedule).__name__} follows a metric, so that a resumed run cannot change '
                f'lr, optimiser or schedules: resume it with the former settings, {_NEW_RUN}'
            )
    by_iteration = [s for s in runner.param_schedulers or [] if not s.by_epoch]
    by_epoch = [s for s in runner.param_schedulers or [] if s.by_epoch]
    loop = runner.train_loop
    length = len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else iterations + 1
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of `scheduler.step', UserWarning)
        for done in range(1, iterations + 1):
            _step(by_iteration)
            if done % length == 0:
                _step(by_epoch)


def _step(schedules: list[_ParamScheduler]) -> None:
    for schedule in schedules:
        schedule.step()


def _same(new: dict, old: dict, but: set[str] | tuple[str, ...]) -> bool:
    """Whether two states agree in all that both have; a newer torch may have more."""
    return all(new[key] == old[key] for key in new.keys() & old.keys() if key not in but)


def _check_groups(runner: Runner, optimizer: dict, groups: list[dict]) -> None:
    """Raise a `UserError` unless the optimiser's state is that of the same parameters."""
    present = runner.optim_wrapper.param_groups
    sizes, stored = ([len(group['params']) for group in g] for g in (present, groups))
    params = [p for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']]
    fits = sizes == stored
    for number, state in optimizer['state'].items():
        average = state.get('exp_avg', state.get('momentum_buffer'))
        if fits and isinstance(number, int) and average is not None:
            fits = average.numel() == params[number].numel()
    if not fits:
        raise UserError(
            'the parameters that are trained, or how optim_wrapper.paramwise_cfg groups them, have '
            f'changed (groups of {sizes}, were {stored}), and a resumed run cannot do that: resume '
            f'it with the former settings, {_NEW_RUN}'
        )


def _rename_files(runner: Runner, checkpoint: dict) -> None:
    """Let a checkpoint name its neighbours where they are now, and never those of another folder.

    mmengine removes the best one when there is a better one, and a work dir may have been copied.
    """
    folder = Path(runner.work_dir)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.out_dir is not None:
            folder = Path(hook.out_dir, folder.name)
    info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    for key, path in info.items():
        if re.fullmatch(r'last_ckpt|best_ckpt(_.*)?', key) and isinstance(path, str):
            here = folder / Path(path).name
            info[key] = str(here) if here.is_file() else None


def _flat(value, key: str = '') -> dict:
    """Settings by dotted key; lists of plain values are values."""
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(v, dict | list | tuple) for v in value):
        entries = enumerate(value)
    else:
        return {key: list(value) if isinstance(value, tuple) else value}
    flat = {}
    for name, entry in entries:
        flat |= _flat(entry, f'{key}.{name}' if key else name)
    return flat
