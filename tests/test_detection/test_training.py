"""The cascade is trained and tested by a runner, on mini scenes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'


@pytest.mark.slow
def test_cascade_trains_and_is_tested(tmp_path):
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_mini.py'
    command = [sys.executable, tool, tmp_path / 'mini', '--train', '8', '--val', '9']
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (mini,) = (CONFIGS / 'det').glob('mask-rcnn_adpe-vit-*_mini.py')
    cfg = Config.fromfile(mini)
    cascade = Config.fromfile(CONFIGS / '_base_' / 'models' / 'cascade-mask-rcnn_vitdet-b.py').model
    narrow = dict(in_channels=32, conv_out_channels=32, fc_out_channels=128, num_classes=8)
    for head in cascade.roi_head.bbox_head:
        head.update(narrow)
    cfg.model.type = cascade.type
    for key in ('type', 'overlaps', 'bbox_head'):
        cfg.model.roi_head[key] = cascade.roi_head[key]
    cfg.model.backbone.init_cfg = None
    coco = tmp_path / 'mini' / 'coco'
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(coco)
    annotations = str(coco / 'annotations' / 'instances_val2017.json')
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = annotations
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_iters=6, val_interval=6)
    cfg.default_hooks.checkpoint.interval = 6
    cfg.default_hooks.logger.interval = 1
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), 'cascade'
    runner = RUNNERS.build(cfg)
    runner.train()
    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = {f's{stage}.loss_{kind}' for stage in range(3) for kind in ('cls', 'bbox')}
    for line in lines[:6]:
        assert losses | {'loss_mask'} <= set(line)
        assert all(torch.isfinite(torch.tensor(line[name])) for name in losses)
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(lines[-1])
