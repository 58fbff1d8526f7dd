"""A check of data and config before anything trains: `check_data`.

Nothing is built: it reads the config, the names of files, their headers and small samples of them.
"""

from mmengine.config import Config

from .findings import Findings

__all__ = ['Findings', 'check_data']


def check_data(cfg: Config, every: bool = False) -> Findings:
    """Look for what would fail in training, or succeed and be wrong.

    Args:
        cfg: Config of a run.
        every: Look at each file, not at samples of them.
    """
    findings = Findings()
    task = task_of(cfg)
    # Each task is imported where it is checked.
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
