#!/usr/bin/env python
"""Train: pretraining and every transfer task.

python tools/train.py configs/pretrain/adpe_vit-mini_mini.py
tools/dist_train.sh configs/pretrain/adpe_vit-b_1600e.py 8
"""

import argparse

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import adpe_mm  # noqa: F401  checks the installed versions first
from adpe_mm.datasets.checking import require_sound_data
from adpe_mm.engine.work_dir import own_work_dir
from adpe_mm.errors import UserError
from adpe_mm.launch import (
    add_config_arguments,
    init_processes,
    keep_freed_memory,
    load_config,
    one_sentence_errors,
    without_pinned_memory,
)
from adpe_mm.stopping import stop


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue a run: from the checkpoint named, or from the newest of the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision (bfloat16), if the config has it not'
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate in training')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale lr by the real global batch'
    )
    parser.add_argument(
        '--no-check', action='store_true', help='do not look at data and config beforehand'
    )
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Write the flags into the config.

    Raises:
        ValueError: If a flag needs a setting that the config lacks.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp and not cfg.optim_wrapper.get('type', 'OptimWrapper').endswith('AmpOptimWrapper'):
        cfg.optim_wrapper.type = 'adpe_mm.AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('dtype', 'bfloat16')
    without_pinned_memory(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the '
                'batch that its lr is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def main() -> None:
    args = parse_args()
    stop.listen()
    cfg = merge_args(load_config(args), args)
    keep_freed_memory()
    init_processes(args.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
    with own_work_dir(cfg.work_dir):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        if not args.no_check and not cfg.resume:
            require_sound_data(cfg, 'train_dataloader', 'val_dataloader')
        runner.train()


if __name__ == '__main__':
    with one_sentence_errors('train'):
        main()
