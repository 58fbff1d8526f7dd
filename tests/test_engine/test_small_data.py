"""Loaders without processes, and accuracies of few classes."""

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import nn

from adpe_mm.engine import AdPERunner
from tests.test_engine.toy import draw, make_runner


@DATASETS.register_module()
class SmallDataOfOne(BaseDataset):
    def load_data_list(self):
        return [dict(place=place) for place in range(4)]


@pytest.mark.parametrize('workers', [0, None])
def test_no_workers_need_no_settings_of_them(workers):
    """torch refuses each of these settings, or ignores it, where there is no process."""
    loader = dict(
        batch_size=2,
        persistent_workers=True,
        prefetch_factor=4,
        timeout=10,
        multiprocessing_context='fork',
        worker_init_fn=dict(type='adpe_mm.datasets.start_worker'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='SmallDataOfOne', pipeline=[]),
    )
    if workers is not None:
        loader['num_workers'] = workers
    batches = list(AdPERunner.build_dataloader(loader, seed=0))
    assert [batch['place'] for batch in batches] == [[0, 1], [2, 3]]
    assert loader['persistent_workers']  # the config is as it was


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Module()
        self.head.num_classes = classes


@pytest.mark.parametrize(
    'classes, topk, expected',
    [(2, (1, 5), {'top1'}), (4, (1, 3, 5), {'top1', 'top3'}), (2, 5, {'top1'}), (5, (1, 5), None)],
)
def test_accuracies_of_few_classes(tmp_path, caplog, classes, topk, expected):
    runner = make_runner(tmp_path / 'run', draw(tmp_path / 'images', 4))
    runner.model = Classifier(classes)
    evaluator = runner.build_evaluator(dict(type='mmpretrain.Accuracy', topk=topk))
    scores = torch.eye(classes)[[0, 1]]  # both are right
    samples = [
        DataSample().set_gt_label(label).set_pred_score(score) for label, score in enumerate(scores)
    ]
    evaluator.process(samples)
    found = evaluator.evaluate(2)
    expected = {f'accuracy/{name}' for name in expected or ('top1', 'top5')}
    assert found == dict.fromkeys(expected, 100)
