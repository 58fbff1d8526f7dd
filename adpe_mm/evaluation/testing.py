"""What a test shows and keeps beside its metrics."""

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from adpe_mm.errors import UserError


def show_predictions(cfg: Config, show: bool, folder: str | None, wait_time: float) -> None:
    """Have the visualization hook of the task's library draw.

    Args:
        cfg: Config of the test, which is changed.
        show: Whether to open a window.
        folder: To save the images to, if any.
        wait_time: Seconds that a window stays.

    Raises:
        ValueError: If the config has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show and --show-dir need default_hooks.visualization in the config')
    if cfg.default_scope == 'mmpretrain':
        hook.update(enable=True, show=show, out_dir=folder, interval=1)
    else:
        hook.update(draw=True, show=show, wait_time=wait_time, interval=1)
        if cfg.default_scope == 'mmdet':
            hook.pop('interval')
            hook.update(test_out_dir=folder)
        elif folder:
            cfg.visualizer.update(save_dir=folder, vis_backends=[dict(type='LocalVisBackend')])


def keep_details(cfg: Config, out: str | None) -> None:
    """Have COCO's metric give results by class, and the predictions kept where `out` says.

    Raises:
        ValueError: If `out` is of the wrong kind.
    """
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, list) else [evaluators]
    for evaluator in evaluators:
        if evaluator.type.endswith('CocoMetric'):
            evaluator.classwise = True
        if out and evaluator.type.endswith('IoUMetric'):
            evaluator.output_dir = out
    if out and cfg.default_scope != 'mmseg':
        if not out.endswith(('.pkl', '.pickle')):
            raise UserError(f"--out must be a .pkl file, got '{out}'")
        kind = 'DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
        evaluators.append(ConfigDict(type=kind, out_file_path=out))
    cfg.test_evaluator = evaluators


def remember_classes(runner: Runner) -> dict[str, dict[str, float]]:
    """Have mmseg's metric fill the returned dict, class by class, where it only prints."""
    found = {}
    evaluator = runner.build_evaluator(runner._test_evaluator)
    runner._test_evaluator = evaluator
    for metric in evaluator.metrics:
        if not hasattr(metric, 'total_area_to_metrics'):
            continue
        compute = metric.total_area_to_metrics

        def keep(*args, compute=compute, metric=metric, **kwargs):
            result = compute(*args, **kwargs)
            for name in ('IoU', 'Acc'):
                if name in result:
                    found[name] = dict(
                        zip(
                            metric.dataset_meta['classes'],
                            (100 * result[name]).tolist(),
                            strict=True,
                        )
                    )
            return result

        metric.total_area_to_metrics = keep
    return found


def split_classes(
    metrics: dict[str, float], by_class: dict[str, dict[str, float]]
) -> dict[str, float]:
    """Move COCO's results of single classes out of the metrics, into `by_class`."""
    whole = {}
    for name, value in metrics.items():
        kind, _, rest = name.rpartition('/')
        if rest.endswith('_precision'):
            by_class.setdefault(kind or 'AP', {})[rest.removesuffix('_precision')] = float(value)
        else:
            whole[name] = value
    return whole
