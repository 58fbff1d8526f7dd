"""The table says what was published, what was measured, and mixes nothing."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from adpe_mm.evaluation.tables import load_paper, read_results, tables, to_csv, to_markdown

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'
PAPER = load_paper(TOOLS / 'paper_results.yml')

ADPE = dict(method='AdPE', variant='RPE coordinate', checkpoint='a.pth', sha256='a')
SCRATCH = dict(method='scratch', variant=None, checkpoint=None, sha256=None)


def write(folder, name='test_a.json', **changes):
    """A result as tools/test.py leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    result = dict(
        format='adpe_mm.test/1', task='cls', dataset='ImageNet-1K', protocol='fine-tuning',
        backbone='ViT-B', position='RPE', head='linear', pretraining=ADPE, seed=0, tta=False,
        metrics={'accuracy/top1': 84.0, 'accuracy/top5': 97.0}, per_class=None, config='c.py',
        checkpoint='x.pth', checkpoint_sha256=str(folder), versions={'torch': '2'}, device='CPU',
        date='2026-01-01T00:00:00',
    )  # fmt: skip
    (folder / name).write_text(json.dumps(result | changes))


def cell(table, row, column):
    return table.cells[row, column]


BEST = ('AdPE', 'RPE coordinate', 'ViT-B')
TOP1 = ('cls', '', 'top-1')


@pytest.mark.parametrize(
    'row, column, value',
    [
        (('MAE', '', 'ViT-B'), TOP1, 83.6),
        (('MAE', '', 'ViT-L'), TOP1, 85.9),
        (('MAE', '', 'ViT-H'), TOP1, 86.9),
        (('MAE', '', 'ViT-H, 448 px'), TOP1, 87.8),
        (('MAE', '', 'ViT-B, linear probing'), TOP1, 68.0),
        (('MAE', '', "ViT-B, BEiT's bias"), ('seg', '', 'mIoU'), 48.1),
        (('MAE', '', "ViT-L, BEiT's bias"), ('seg', '', 'mIoU'), 53.6),
        (('MAE', '', 'ViT-B'), ('det', 'Mask R-CNN', 'box AP'), 50.3),
        (('MAE', '', 'ViT-B'), ('det', 'Mask R-CNN', 'mask AP'), 44.9),
        (('MAE+', 'APE', 'ViT-B'), TOP1, 83.9),
        (('MAE+', 'RPE', 'ViT-B'), TOP1, 84.2),
        (('AdPE', 'APE embedding', 'ViT-B'), TOP1, 84.1),
        (('AdPE', 'APE coordinate', 'ViT-B'), TOP1, 84.2),
        (('AdPE', 'RPE embedding', 'ViT-B'), TOP1, 84.3),
        (BEST, TOP1, 84.4),
        (('AdPE', 'RPE coordinate', 'ViT-L'), TOP1, 86.3),
        ((*BEST[:2], 'ViT-B, TTA'), ('seg', '', 'mIoU'), 48.1 + 2.6),
        (BEST, ('det', 'detector not stated', 'box AP'), 50.3 + 3.2),
        (BEST, ('det', 'detector not stated', 'mask AP'), 44.9 + 1.6),
        (('MAE in ViTDet', '', 'ViT-B'), ('det', 'Mask R-CNN', 'box AP'), 51.6),
        (('MAE in ViTDet', '', 'ViT-B'), ('det', 'Cascade Mask R-CNN', 'mask AP'), 46.7),
        (('MAE in ViTDet', '', 'ViT-L'), ('det', 'Mask R-CNN', 'mask AP'), 49.2),
        (('MAE in ViTDet', '', 'ViT-H, 75 epochs'), ('det', 'Cascade Mask R-CNN', 'box AP'), 58.7),
        (('MAE in mmsegmentation', '', "ViT-B, BEiT's bias"), ('seg', '', 'mIoU'), 48.13),
        (('MAE in mmsegmentation', '', "ViT-B, BEiT's bias, TTA"), ('seg', '', 'mIoU'), 48.70),
        (('iBOT', '', 'ViT-B'), TOP1, 84.0),
        (('iBOT', '', 'ViT-B, 12 epochs'), ('det', 'Cascade Mask R-CNN', 'box AP'), 51.2),
        (('CAE', '', 'ViT-B, 12 epochs'), ('det', 'Mask R-CNN', 'box AP'), 50.3),
        (('CAE', '', 'ViT-L'), ('seg', '', 'mIoU'), 54.9),
        (('HPM', '', 'ViT-B'), TOP1, 84.2),
    ],
)
def test_published_figures(row, column, value):
    """Against the paper's and the READMEs' figures, typed here again."""
    (table,) = tables([], PAPER)
    assert cell(table, row, column).published == pytest.approx(value)
    assert cell(table, row, column).source
    assert not cell(table, row, column).measured


def test_mean_spread_and_difference(tmp_path):
    for seed, value in enumerate((84.0, 84.6, 85.0)):
        write(tmp_path / str(seed), seed=seed, metrics={'accuracy/top1': value})
    (table,) = tables(read_results([tmp_path]), PAPER)
    found = cell(table, BEST, TOP1)
    assert found.mean == pytest.approx(84.5333, abs=1e-4)
    assert found.spread == pytest.approx(0.50332, abs=1e-5)  # sqrt((.5333² + .0667² + .4667²) / 2)
    assert found.difference == pytest.approx(0.1333, abs=1e-4)
    assert '84.4 [2] / 84.5 ± 0.5 (3) (+0.1)' in to_markdown([table])


def test_mini_scenes_never_stand_in_a_public_column(tmp_path):
    write(tmp_path / 'a', dataset='mini scenes', pretraining=SCRATCH)
    write(
        tmp_path / 'b', dataset='mini scenes', task='det', head='Mask R-CNN',
        metrics={'coco/bbox_mAP': 0.123, 'coco/segm_mAP': 0.1},
    )  # fmt: skip
    write(tmp_path / 'c', dataset='ADE20K', task='cls')  # not what ADE20K is for
    public, ade, mini = tables(read_results([tmp_path]), PAPER)
    assert not any(cell.measured for cell in public.cells.values())
    assert mini.title == 'Measured on mini scenes' and ade.title == 'Measured on ADE20K'
    assert cell(mini, BEST, ('det', 'Mask R-CNN', 'box AP')).mean == pytest.approx(12.3)
    assert cell(mini, ('scratch', 'RPE', 'ViT-B'), TOP1).mean == 84
    assert all(cell.published is None for cell in mini.cells.values())


def test_kinds_of_test_stay_apart(tmp_path):
    write(tmp_path / 'a', 'test_a.json', metrics={'accuracy/top1': 1})
    write(tmp_path / 'a', 'test_a_tta.json', metrics={'accuracy/top1': 2}, tta=True)
    write(tmp_path / 'b', protocol='linear probing', metrics={'accuracy/top1': 3})
    (table,) = tables(read_results([tmp_path]), PAPER)
    found = {row[2]: cell(table, row, TOP1).measured for row in table.rows if row[:2] == BEST[:2]}
    assert found['ViT-B'] == [1] and found['ViT-B, TTA'] == [2]
    assert found['ViT-B, linear probing'] == [3]


def test_no_difference_where_protocols_differ(tmp_path):
    """What was trained at another size, for another length or on a part of the labels."""
    metrics = {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.4}
    coco = dict(task='det', dataset='COCO', head='Mask R-CNN', metrics=metrics, size=1024)
    write(tmp_path / 'a', size=384)
    write(tmp_path / 'b', protocol='fine-tuning on 1percent')
    write(tmp_path / 'c', **coco, task_epochs=12)
    write(tmp_path / 'd', **coco, task_epochs=100)
    seg = dict(task='seg', dataset='ADE20K', metrics={'mIoU': 49}, size=512)
    write(tmp_path / 'e', **seg)
    write(tmp_path / 'f', **seg, bias=True, tta=True)
    (table,) = tables(read_results([tmp_path]), PAPER)
    measured = {key: cell for key, cell in table.cells.items() if cell.measured}
    assert {row[2] for row, _ in measured} == {
        'ViT-B, 384 px', 'ViT-B, fine-tuning on 1percent', 'ViT-B, 12 epochs', 'ViT-B',
        "ViT-B, BEiT's bias, TTA",
    }  # fmt: skip
    assert all(cell.difference is None for cell in measured.values())


def test_latest_test_of_a_folder_and_one_of_a_checkpoint_count(tmp_path):
    write(tmp_path / 'a', 'test_1.json', date='2026-01-02', metrics={'accuracy/top1': 2})
    write(tmp_path / 'a', 'test_2.json', date='2026-01-01', metrics={'accuracy/top1': 1})
    write(tmp_path / 'b', checkpoint_sha256=str(tmp_path / 'a'), metrics={'accuracy/top1': 2})
    assert [r['metrics']['accuracy/top1'] for r in read_results([tmp_path])] == [2]


def test_a_metric_without_a_value_is_not_measured(tmp_path):
    write(tmp_path / 'a', dataset='ADE20K', task='seg', metrics={'mIoU': None, 'aAcc': 3.0})
    (table,) = tables(read_results([tmp_path]), PAPER)
    assert not any(cell.measured for cell in table.cells.values())


def test_csv(tmp_path):
    write(tmp_path / 'a')
    to_csv(tables(read_results([tmp_path]), PAPER), tmp_path / 'table.csv')
    with open(tmp_path / 'table.csv', newline='') as file:
        rows = {tuple(line[k] for k in ('pretraining', 'variant', 'backbone', 'metric')): line
                for line in csv.DictReader(file)}  # fmt: skip
    line = rows[(*BEST, 'top-1')]
    assert (line['published'], line['measured'], line['runs']) == ('84.4', '84.0', '1')
    assert float(line['difference']) == pytest.approx(-0.4)
    assert rows[(*BEST[:2], 'ViT-B, TTA', 'mIoU')]['measured'] == 'not run'


def run(tool, *arguments):
    return subprocess.run(
        [sys.executable, TOOLS / tool, *arguments], capture_output=True, text=True
    )


def test_mistakes_are_one_sentence(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'test_x.json').write_text('{"metrics": 1')
    for argument, sentence in [
        (tmp_path / 'a', 'is no result of tools/test.py'),
        (tmp_path / 'none', 'there is no folder'),
    ]:
        done = run('transfer_table.py', argument, '--out', tmp_path)
        assert done.returncode == 1 and sentence in done.stderr and 'Traceback' not in done.stderr
