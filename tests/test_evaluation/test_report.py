"""The report says first what matters, shows what is there, and grows."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from adpe_mm.evaluation.drawing import columns_of, epochs_sheet, reconstruction_sheet, sheet
from adpe_mm.evaluation.report import make_report, some, summary, write_report
from adpe_mm.evaluation.runs import duration, find_runs, read_progress
from adpe_mm.evaluation.tables import load_paper, tables, to_markdown
from tests.test_evaluation.test_transfer_table import SCRATCH, write

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'report.py'
PAPER = load_paper(TOOL.with_name('paper_results.yml'))

# Lines of logs as they were written, shortened where dots are.
LOG = """2026/11/25 02:34:05 - mmengine - INFO - global batch 64 = 2 processes x 16 x 2 accumulated
2026/11/25 15:28:56 - mmengine - INFO - Epoch(train)  [9][40/62]  base_lr: 5.6e-04 lr: 5.6e-04  \
eta: 0:05:40  time: 0.5000  data_time: 0.0250  loss: 0.6
2026/11/25 15:30:00 - mmengine - INFO - Epoch(val) [9][10/20]  eta: 0:00:32  time: 9  data_time: 9
2026/11/25 15:30:12 - mmengine - INFO - Epoch(train) [10][31/62]  base_lr: 5.6e-04 lr: 5.6e-04  \
eta: 1 day, 0:04:10  time: 0.2500  data_time: 0.0050  memory: 812  loss: 0.6
"""
ITERATIONS = (
    '2026/11/25 15:45:49 - mmengine - INFO - Iter(train) [ 60/400]  base_lr: 9.4e-04 lr: 9.4e-04  '
    'eta: 0:00:00  time: 2.0031  data_time: 0.1  decode.loss_ce: 2.2\n'
)


def test_progress_by_epoch_and_by_iteration():
    now = read_progress(LOG, Config(dict(train_cfg=dict(max_epochs=16))))
    assert (now.done, now.total, now.unit) == (9.5, 16, 'epoch')
    assert now.left == timedelta(days=1, minutes=4, seconds=10) and not now.complete
    assert (now.seconds, now.waiting, now.images) == (0.25, 0.005, 32)
    assert now.speed == 128  # 32 images in a quarter of a second
    assert now.date == datetime(2026, 11, 25, 15, 30, 12)

    saving = '2026/11/25 15:31:17 - mmengine - INFO - Saving checkpoint at {} epochs\n'
    cfg = Config(dict(train_cfg=dict(max_epochs=16)))
    assert not read_progress(LOG + saving.format(10), cfg).complete
    assert read_progress(LOG + saving.format(16), cfg).complete

    now = read_progress(ITERATIONS, Config())
    assert (now.done, now.total, now.unit) == (60, 400, 'iteration')
    assert now.complete and now.images is None and now.speed is None
    assert read_progress('nothing yet\n', Config()) is None


@pytest.mark.parametrize(
    'seconds, text',
    [
        (20, '20 s'),
        (250, '4 min'),
        (18600, '5 h 10 min'),
        (86400, '1 day 0 h'),
        (2e6, '23 days 3 h'),
    ],
)
def test_duration(seconds, text):
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize('shape', [(3, 48, 48), (8, 16, 24), (1, 7, 5)])
def test_columns_are_what_the_sheet_was_made_of(shape):
    rows = np.random.default_rng(0).integers(
        0, 256, (shape[0], shape[1], 4 * shape[2], 3), np.uint8
    )
    rows[:, -2:] = 255  # white at the border, as the space between images
    found = columns_of(reconstruction_sheet(rows, side=shape[1]))
    assert list(found) == ['input', 'masked', 'prediction', 'all patches predicted']
    for given, column in zip(np.split(rows, 4, axis=2), found.values(), strict=True):
        assert np.array_equal(column, given)
    assert columns_of(rows[0]) == {}  # no sheet


def sheets(*shades, crops=3):
    """A sheet for each shade, the predictions of which have it, of the same inputs."""
    rows = np.zeros((crops, 20, 80, 3), np.uint8)
    rows[..., :40, :] = np.arange(crops).reshape(-1, 1, 1, 1)
    for shade in shades:
        rows[..., 40:, :] = shade
        yield reconstruction_sheet(rows, side=20)


def test_epochs_stand_side_by_side_for_the_same_crops_only():
    first, second = sheets(100, 200)
    (others,) = sheets(50, crops=2)
    found = epochs_sheet({6: first, 3: others, 12: second}, crops=2)
    images = [np.full((2, 20, 20, 3), shade, np.uint8) for shade in (0, 0, 100, 200)]
    for column in images[:2]:
        column[1] = 1
    names = ('input', 'masked', 'epoch 6', 'epoch 12')
    assert np.array_equal(found, sheet(dict(zip(names, images, strict=True))))
    assert epochs_sheet({}, crops=2) is None


def test_some_keeps_the_last():
    found = {epoch: Path(f'{epoch}.png') for epoch in range(10, 1610, 10)}
    assert list(some(found, 5)) == [10, 410, 810, 1200, 1600]
    assert some({3: 'a'}, 5) == {3: 'a'} and some({}, 5) == {}


def test_best_and_worth():
    def result(method, seed, top1, miou=None):
        origin = dict(method=method, variant='RPE' if method == 'MAE+' else None)
        metrics = {'accuracy/top1': top1} | ({'mIoU': miou} if miou else {})
        return dict(
            task='cls', dataset='ships', backbone='ViT', position='RPE', head='linear', tta=False,
            pretraining=origin, metrics=metrics, seed=seed,
        )  # fmt: skip

    results = [result('MAE+', 0, 60.0), result('MAE+', 1, 70.0), result('scratch', 0, 66.0)]
    public, own = tables(results, PAPER)
    assert public.measured.cells == {}  # the paper's data sets were not run
    assert list(own.worth()) == [
        'Classification of ships, top-1: pretrained 65.0 (MAE+ RPE), from scratch 66.0'
    ]
    assert '| scratch | RPE | ViT | **66.0** |' in to_markdown([own])
    assert '**65' not in to_markdown([own]) and '| 65.0 ± 7.1 (2) |' in to_markdown([own])
    alone = tables([result('MAE+', 0, 60.0)], [])[1]
    assert alone.best == set() and list(alone.worth()) == []


class Page(HTMLParser):
    """Checks that what is opened is closed; collects images, headings, texts, and bold ones."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.text, self.headings, self.bold = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert not re.match('https?:', attributes.get('src', '') + attributes.get('href', ''))
        if tag == 'img':
            code = attributes['src'].partition(',')[2]
            self.images.append((len(self.headings), Image.open(io.BytesIO(base64.b64decode(code)))))
        elif tag != 'meta':
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == 'h2':
            self.headings.append(data)
        if self.open and self.open[-1] == 'b':
            self.bold.append(data)


def pretraining(folder, epoch=10, left='0:00:20'):
    """What a pretraining leaves that has come to an epoch of 16."""
    log = folder / '20260101' / '20260101.log'
    images = log.parent / 'vis_data' / 'vis_image'
    images.mkdir(parents=True, exist_ok=True)
    log.write_text(LOG.splitlines()[0] + '\n' + ITERATIONS.replace('Iter', 'Epoch').replace(
        '[ 60/400]', f'[{epoch}][62/62]').replace('0:00:00', left))  # fmt: skip
    model = dict(
        type='adpe_mm.MAEPlus',
        backbone=dict(position='rpe'),
        adversary=dict(type='adpe_mm.AdversarialPosition', mode='coordinate'),
    )
    cfg = Config(dict(model=model, train_cfg=dict(max_epochs=16)))
    cfg.dump(images.parent / 'config.py')
    scalars = [{'loss': 1 / step, 'adversary/size': step, 'step': step} for step in (1, 2)]
    (images.parent / 'scalars.json').write_text(''.join(json.dumps(s) + '\n' for s in scalars))
    for number, drawn in zip((epoch - 5, epoch), sheets(100, 200), strict=True):
        Image.fromarray(drawn).save(images / f'reconstruction_{number}.png')
        Image.new('RGB', (80, 40)).save(images / f'adversary_{number}.png')


def probed(folder, *accuracies):
    records = [
        dict(epoch=5 * i, attentive=a, effective_rank=3.0, largest_norm=1.0,
             attention_distance=[9.0], token_norm=[1.0])
        for i, a in enumerate(accuracies)
    ]  # fmt: skip
    text = ''.join(json.dumps(record) + '\n' for record in records)
    (folder / '20260101' / 'probes.jsonl').write_text(text)


def test_what_was_trained_comes_first_and_versions_last(tmp_path):
    assert summary(tmp_path) == ['Nothing has been logged yet.']
    page = Page(make_report(tmp_path, 'title', PAPER))
    assert page.images == [] and page.headings == ['Made with']

    pretraining(tmp_path / 'pretrain')
    probed(tmp_path / 'pretrain', 20.0, 31.5)
    assert summary(tmp_path) == [
        'AdPE (relative positions, coordinate), pretrain: epoch 10 of 16, 20 s left at 15:45 on 25 '
        'November 2026, 16 images per second.',
        'Its frozen features by the attentive probe: 20.0 % untrained, 31.5 % after epoch 5.',
    ]
    page = Page(make_report(tmp_path, 'title', PAPER))
    assert page.headings == [
        'Frozen features, while it trains', 'Reconstructions', 'The adversary', 'Curves', 'Speed',
        'Made with',
    ]  # fmt: skip
    before, first = page.images[0]
    assert before == 0 and first.width == 4 * 24 - 4  # input, masked, epochs 5 and 10

    write(tmp_path / 'a', dataset='mini scenes', per_class={'IoU': {'<cup>': 12.5, 'tee': None}})
    write(tmp_path / 'b', dataset='mini scenes', pretraining=SCRATCH, metrics={'accuracy/top1': 20})
    drawn = tmp_path / 'a' / 'predictions' / 'drawn' / 'x.png'
    drawn.parent.mkdir(parents=True)
    Image.new('RGB', (2400, 40), 'red').save(drawn)
    page = Page(make_report(tmp_path, 'title', PAPER))
    assert page.headings[0] == 'Measured on mini scenes' and page.headings[-1] == 'Made with'
    assert not any('Published' in heading for heading in page.headings)
    assert max(image.width for _, image in page.images) <= 1100
    assert page.bold == ['84.0']
    text = ' '.join(page.text)
    assert '<cup>' in text and '12.5' in text and ' - ' in text
    assert summary(tmp_path)[-1] == (
        'Classification of mini scenes, top-1: pretrained 84.0 (AdPE RPE coordinate), from scratch '
        '20.0.'
    )


def test_an_image_that_is_being_written_is_left_out(tmp_path):
    pretraining(tmp_path)
    for path in tmp_path.rglob('*_10.png'):
        path.write_bytes(path.read_bytes()[:-30])
    assert [image.width for _, image in Page(make_report(tmp_path, 'title', [])).images[:2]] == [
        3 * 24 - 4  # input, masked, epoch 5
    ] * 2


def test_the_papers_table_is_there_where_its_data_was_run(tmp_path):
    write(tmp_path / 'a')
    page = Page(make_report(tmp_path, 'title', PAPER))
    assert page.headings == ['Published, and measured here', 'Made with']
    assert 'ImageNet top-1' in page.text and not any('ADE20K' in text for text in page.text)
    assert not any(text.endswith('not run') and '[' not in text for text in page.text)


def test_a_run_in_the_folder_itself(tmp_path):
    pretraining(tmp_path / 'mine', epoch=16, left='0:00:00')
    (run,) = find_runs(tmp_path / 'mine')
    assert run.name == 'mine' and run.is_pretraining
    assert 'mine: complete, 16 epochs, 16 images per second.' in summary(tmp_path / 'mine')[0]


def test_the_page_is_replaced_at_once(tmp_path):
    path = tmp_path / 'report.html'
    path.write_text('old')
    with open(path) as reader:
        write_report(path, 'new')
        assert reader.read() == 'old'  # a reader that had begun reads what it opened
    assert path.read_text() == 'new' and [*tmp_path.iterdir()] == [path]


def run(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, TOOL, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def wait_for(path, text, seconds=120):
    for _ in range(10 * seconds):
        if path.exists() and text in path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise TimeoutError(text)


@pytest.mark.slow
def test_it_grows(tmp_path):
    """While it is watched, and until it is stopped."""
    report = tmp_path / 'report.html'
    process = run(tmp_path, '--watch', '1')
    assert 'http-equiv="refresh"' in wait_for(report, 'Nothing has been logged yet.')
    pretraining(tmp_path / 'pretrain')
    wait_for(report, 'epoch 10 of 16')
    pretraining(tmp_path / 'pretrain', epoch=16, left='0:00:00')
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert 'complete, 16 epochs' in out
    last = report.read_text()
    assert 'complete, 16 epochs' in last and 'http-equiv="refresh"' not in last

    for folder, sentence in [('none', 'there is no folder'), ('broken', 'is no result of')]:
        (tmp_path / 'broken').mkdir(exist_ok=True)
        (tmp_path / 'broken' / 'test_x.json').write_text('{"metrics": 1')
        process = run(tmp_path / folder)
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 1 and sentence in error and 'Traceback' not in error
