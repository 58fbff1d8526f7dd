#!/usr/bin/env python
"""Test a classifier, segmentor or detector.

    python tools/test.py configs/seg/upernet_adpe-vit-mini_mini.py work_dirs/x/iter_800.pth
    tools/dist_test.sh CONFIG CHECKPOINT 8

Prints the metrics, with a table by class, and writes them to WORK_DIR/test_CHECKPOINT.json
(test_CHECKPOINT_tta.json with --tta) together with what was tested. There, "per_class" is in
percent, and null is what has no value, such as that of a class without images. Of such files
tools/analysis_tools/transfer_table.py makes tables.

--out keeps the predictions of the test: of classification and detection a pickle of one dict per
image (`pickle.load`), of segmentation a folder of PNG files, named as the images, with the numbers
of classes as the masks have them (from 1 on with reduce_zero_label). For other programs, and images
without labels, see tools/visualizations/predict.py.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import adpe_mm  # noqa: F401  checks the installed versions first
from adpe_mm.checkpoints import file_hash, read_checkpoint
from adpe_mm.datasets.checking import require_sound_data
from adpe_mm.errors import MissingFile, UserError
from adpe_mm.evaluation.results import describe_test
from adpe_mm.evaluation.testing import (
    keep_details,
    remember_classes,
    show_predictions,
    strict,
)
from adpe_mm.launch import (
    add_config_arguments,
    init_processes,
    load_config,
    one_sentence_errors,
    without_pinned_memory,
)
from adpe_mm.stopping import stop


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        help='keep the predictions: a .pkl file, or for segmentation a folder of PNG files',
    )
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='folder to save images with predictions to')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--no-check', action='store_true', help='do not look at data and config beforehand'
    )
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Write the flags into the config.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a flag needs a setting that the config lacks.
    """
    if cfg.get('test_evaluator') is None:
        raise UserError('the config has no test_evaluator: is it one of pretraining?')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise MissingFile(f"there is no checkpoint '{args.checkpoint}'")
    cfg.load_from = args.checkpoint
    cfg.resume = False
    without_pinned_memory(cfg)
    if args.tta or cfg.get('tta'):
        if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
            raise UserError(
                'test-time augmentation needs tta_model and tta_pipeline in the config: the '
                'configs of classification and segmentation have them'
            )
        cfg.tta = True
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    if args.show or args.show_dir:
        show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    keep_details(cfg, args.out)
    return cfg


def main() -> None:
    args = parse_args()
    stop.listen()
    cfg = merge_args(load_config(args), args)
    init_processes(args.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
    tested = cfg.model
    if cfg.get('tta'):
        cfg.model = ConfigDict(**cfg.tta_model, module=tested)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if not args.no_check:
        require_sound_data(cfg, 'test_dataloader')
    by_class = remember_classes(runner)
    metrics = runner.test()
    if not is_main_process():
        return
    cfg.model = tested
    result = describe_test(
        cfg, runner.test_dataloader.dataset, read_checkpoint(args.checkpoint), metrics
    )
    local = Path(args.checkpoint).is_file()
    result.update(
        per_class=by_class or None,
        config=args.config,
        checkpoint=args.checkpoint,
        checkpoint_sha256=file_hash(args.checkpoint) if local else None,
    )
    name = f'test_{Path(args.checkpoint).stem}{"_tta" if cfg.get("tta") else ""}.json'
    path = Path(cfg.work_dir, name)
    text = json.dumps(strict(result), indent=2, allow_nan=False)
    path.write_text(text + '\n', encoding='utf-8')
    print(f'wrote {path}')


if __name__ == '__main__':
    with one_sentence_errors('test'):
        main()
