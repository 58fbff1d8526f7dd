"""A check of data and config before anything trains: `check_data`.

It reads the config, the names of files, the headers of some images, and a few masks; no network is
built. Each task has a function of its own.
"""

import logging

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from adpe_mm.errors import UserError

from .findings import Findings
from .sources import LOADERS

__all__ = ['Findings', 'check_data', 'require_sound_data']


def check_data(cfg: Config, every: bool = False) -> Findings:
    """Look for what would fail in training, or succeed and be wrong.

    Args:
        cfg: Config of a run.
        every: Look at each file, not at samples of them.
    """
    findings = Findings()
    task = task_of(cfg)
    # Each is imported where its task is checked, as it may need the library of the task.
    if task == 'pretraining':
        from .pretraining import check_pretraining

        check_pretraining(cfg, findings, every)
    elif task == 'classification':
        from .classification import check_classification

        check_classification(cfg, findings, every)
    elif task == 'segmentation':
        from .segmentation import check_segmentation

        check_segmentation(cfg, findings, every)
    elif task == 'detection':
        from .detection import check_detection

        check_detection(cfg, findings, every)
    else:
        findings.facts.append(
            f"nothing is checked: default_scope='{cfg.get('default_scope')}' is no task of this "
            'package'
        )
    return findings


def task_of(cfg: Config) -> str | None:
    """'pretraining', 'classification', 'segmentation' or 'detection'; None for another."""
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':  # what pretrains has nothing to test
        return 'pretraining' if cfg.get('test_evaluator') is None else 'classification'
    return dict(mmseg='segmentation', mmdet='detection').get(scope)


def require_sound_data(cfg: Config, *loaders: str) -> None:
    """Check before a run, in one process for all, and log what was found.

    Args:
        cfg: Config of the run.
        *loaders: Those that the run uses, of `LOADERS`.

    Raises:
        UserError: If there are problems; in each process, with a line for each.
    """
    problems: list[list[str]] = [[]]
    if is_main_process():
        unused = {name: None for name in LOADERS if name not in loaders}
        findings = check_data(Config({**cfg, **unused}))
        for fact in findings.facts:
            print_log(fact, logger='current')
        for warning in findings.warnings:
            print_log(warning, logger='current', level=logging.WARNING)
        problems = [findings.problems]
    broadcast_object_list(problems)
    if problems[0]:
        raise UserError('\n'.join([*problems[0], '(--no-check runs all the same)']))
