"""What a test shows and keeps beside its metrics."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.runner import Runner

from adpe_mm.errors import UserError

PICKLES = ('.pkl', '.pickle')
PRECISIONS = {'bbox': 'box AP', 'segm': 'mask AP'}  # of COCO's kinds of results


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
    evaluators = list(evaluators) if isinstance(evaluators, list | tuple) else [evaluators]
    for evaluator in evaluators:
        if evaluator.type.endswith('CocoMetric'):
            evaluator.classwise = True
        if out and evaluator.type.endswith('IoUMetric'):
            if out.endswith(PICKLES):
                raise UserError(f"--out must be a folder for segmentation, got '{out}'")
            evaluator.output_dir = out
    if out and cfg.default_scope != 'mmseg':
        if not out.endswith(PICKLES):
            raise UserError(f"--out must be a .pkl file, got '{out}'")
        kind = 'DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
        evaluators.append(ConfigDict(type=kind, out_file_path=out))
    cfg.test_evaluator = evaluators


class ClassTable(BaseMetric):
    """How well a classifier knows each class, where mmpretrain's accuracy is of all of them.

    In percent, 'accuracy' is of the images of a class those that are given it (its recall), and
    'precision' of the images that are given it those of the class; NaN where there are none.

    Args:
        by_class: The dict to fill: measure, class, value. The number of 'images' is there, too.
    """

    default_prefix = 'class'

    def __init__(self, by_class: dict[str, dict[str, float]]) -> None:
        super().__init__()
        self.by_class = by_class

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            found = (
                sample['pred_score'].argmax() if 'pred_score' in sample else sample['pred_label']
            )
            self.results.append((int(found), int(sample['gt_label'])))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict:
        found, truth = np.array(results).T
        names = list(self.dataset_meta.get('classes') or ())
        names += [f'class {i}' for i in range(len(names), max(found.max(), truth.max()) + 1)]
        count = partial(np.bincount, minlength=len(names))
        images, given, right = count(truth), count(found), count(truth[found == truth])
        with np.errstate(invalid='ignore'):
            columns = dict(accuracy=100 * right / images, precision=100 * right / given)
        columns['images'] = images
        for measure, values in columns.items():
            self.by_class[measure] = dict(zip(names, values.tolist(), strict=True))
        width = max(map(len, names))
        lines = [f'{"class":{width}} {" ".join(columns)}'] + [
            f'{name:{width}} {accuracy:8.1f} {precision:9.1f} {number:6}'
            for name, accuracy, precision, number in zip(names, *columns.values(), strict=True)
        ]
        print_log('\n' + '\n'.join(lines), logger='current')
        return {}


def remember_classes(runner: Runner) -> dict[str, dict[str, float]]:
    """Have the metrics fill the returned dict: measure, class, value in percent.

    Measures are 'IoU' and 'Acc' of mmseg, which only prints them; 'box AP' and 'mask AP' of COCO's
    metric, which gives both the same names; and for classification those of `ClassTable`.
    """
    found: dict[str, dict[str, float]] = {}
    evaluator = runner.build_evaluator(runner._test_evaluator)
    runner._test_evaluator = evaluator
    for metric in evaluator.metrics:
        if hasattr(metric, 'total_area_to_metrics'):
            _remember_areas(metric, found)
        elif type(metric).__name__ == 'CocoMetric':
            _remember_precisions(metric, found)
    if any(type(metric).__name__ == 'Accuracy' for metric in evaluator.metrics):
        evaluator.metrics.append(ClassTable(found))
    return found


def _remember_areas(metric: BaseMetric, found: dict[str, dict[str, float]]) -> None:
    compute = metric.total_area_to_metrics

    def keep(*args, **kwargs):
        result = compute(*args, **kwargs)
        for name in ('IoU', 'Acc'):
            if name in result:
                values = (100 * result[name]).tolist()
                found[name] = dict(zip(metric.dataset_meta['classes'], values, strict=True))
        return result

    metric.total_area_to_metrics = keep


def _remember_precisions(metric: BaseMetric, found: dict[str, dict[str, float]]) -> None:
    compute, kinds = metric.compute_metrics, metric.metrics

    def keep(results: list) -> dict:
        whole = {}
        for kind in kinds:
            metric.metrics = [kind]
            for name, value in compute(results).items():
                if name.endswith('_precision'):
                    classes = found.setdefault(PRECISIONS.get(kind, f'{kind} AP'), {})
                    classes[name.removesuffix('_precision')] = round(100 * float(value), 1)
                else:  # -1 stands for 'no such objects'
                    whole[name] = math.nan if value == -1 else value
        metric.metrics = kinds
        return whole

    metric.compute_metrics = keep


def strict(value: object) -> object:
    """What JSON can hold: numbers that are not finite become None; arrays become lists."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
