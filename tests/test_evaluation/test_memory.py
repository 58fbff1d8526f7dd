"""What forward keeps for backward, against formulas; budgets of the configs, against those kept."""

from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from adpe_mm.evaluation import fitting, memory
from adpe_mm.evaluation.imagined_gpu import GPUAttention
from tests.helpers import needs_imagined_gpu

ROOT = Path(__file__).parents[2]
BUDGETS = ROOT / 'configs' / 'memory.json'
TOLERANCE = 0.02
MINI = 'pretrain/adpe_vit-mini_ape-coord_mini'

pytestmark = needs_imagined_gpu


def config(name, **backbone):
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.model.backbone.update(backbone)
    return cfg


def kept(cfg, images):
    with memory.imagined(cfg) as model:
        return memory.kept_for_backward(cfg, model, images)


def test_bytes_of_known_layers():
    """Of a linear layer its input, of GELU too, and nothing twice."""
    layers = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2))
    found = memory.Kept(layers)
    with found.count():
        out = layers(torch.zeros(10, 4)).sum()
    assert out.requires_grad and sum(found.bytes.values()) == 4 * 10 * (4 + 6 + 6)


def of_block(width, heads, tokens):
    """Bytes of a block under autocast in bfloat16, without relative positions.

    Two normalisations: their input, rounded, mean and deviation; their output. Query, key and
    value; the kernel's output and its sums; inputs of GELU and of the last layer, four times as
    wide.
    """
    norms = 2 * (2 * width + 8 + 2 * width)
    return tokens * (norms + 6 * width + 2 * width + 4 * heads + 2 * 2 * 4 * width)


def test_absolute_positions_by_formula():
    cfg = config('pretrain/adpe_vit-b_ape-coord_1600e')
    found = kept(cfg, 16)
    tokens, masked = 16 * 4 * 50, 16 * 4 * 37
    encoder = sum(n for part, n in found.items() if part.startswith('backbone.layers'))
    # Beside that, weights in bfloat16: 12 width ** 2 per block.
    assert encoder == pytest.approx(12 * (of_block(768, 12, tokens) + 24 * 768**2), rel=5e-3)
    # After the last attention of the decoder only masked patches are left.
    unseen = (tokens - masked) * (6 * 512 + 8 + 16 * 512)
    decoder = sum(n for part, n in found.items() if part.startswith('neck.layers'))
    expected = 8 * (of_block(512, 16, tokens) + 24 * 512**2) - unseen
    assert decoder == pytest.approx(expected, rel=1e-2)


def test_checkpointed_blocks_keep_their_inputs():
    cfg = config('cls/adpe-vit-b-ape_100e_in1k', with_cp=True)
    found = kept(cfg, 8)
    tokens = 8 * 197
    again = found.pop('one block again')
    assert again == pytest.approx(of_block(768, 12, tokens) + 24 * 768**2, rel=5e-2)
    assert sum(found.values()) == pytest.approx(12 * tokens * 768 * 4, rel=0.1)
    cfg = config('cls/adpe-vit-b-ape_100e_in1k')
    cfg.sharding = dict(activation_checkpointing=True)
    assert kept(cfg, 8)['one block again'] == again


def test_a_bias_that_is_no_multiple_of_8_is_copied():
    """PyTorch pads it for its kernel: of 50 keys it makes 56."""
    attend = GPUAttention().attend
    for keys in (50, 56):
        with memory.FakeTensorMode():
            new = partial(torch.empty, device='cuda', dtype=torch.bfloat16, requires_grad=True)
            q, k, v = (new(1, 2, keys, 64) for _ in range(3))
            bias = new(1, 2, keys, keys)
            found = memory.Kept(nn.Identity())
            with found.count():
                out = attend(q, k, v, bias * 1)
        copies = 4 * 2 * keys * 64 * 2  # query, key, value and output
        sums = 2 * 64 * 4  # of the exponentials, of whole blocks of 32 queries
        padded = 2 * keys * 56 * 2
        assert out.requires_grad
        assert sum(found.bytes.values()) == pytest.approx(copies + sums + padded, abs=32)


def test_state():
    """Weights, gradients, two moments; and averages."""
    cfg = config('cls/adpe-vit-mini_mini')
    with memory.imagined(cfg) as model:
        weights = sum(p.numel() for p in model.parameters())
        buffers = sum(b.numel() for b in model.buffers())
        assert memory.state_bytes(cfg, model) == 4 * (4 * weights + buffers)
        cfg.custom_hooks = [dict(type='adpe_mm.EMAHook')]
        assert memory.state_bytes(cfg, model) == 4 * (5 * weights + 2 * buffers)
        cfg.optim_wrapper.optimizer.type = 'adpe_mm.LARS'
        assert memory.state_bytes(cfg, model) == 4 * (4 * weights + 2 * buffers)


def test_activations_are_linear_in_images_and_the_largest_batch_is():
    cfg = config(MINI)
    found = memory.memory_of(cfg, gpus=4)
    for images in (3, 100):
        expected = sum(kept(cfg, images).values())
        assert found.fixed + images * found.per_image == pytest.approx(expected, rel=1e-3)
    for shards in (1, 4):
        found.shards = shards
        found.images = found.largest_batch(0.1)
        assert found.images > 0 and found.total <= 0.09e9 < found.total + found.per_image
    assert found.largest_batch(0.001) == 0


def test_the_page_has_the_table():
    table = fitting.to_markdown(fitting.read_fits(BUDGETS))
    assert table in (ROOT / 'docs' / 'memory.md').read_text()


def test_every_config_has_a_budget():
    """But for those of minutes, of a frozen network, and of other sizes of images."""
    names = [name for fit in fitting.read_fits(BUDGETS) for name in (fit.config, *fit.same)]
    configs = [
        fitting.short_name(path)
        for task in ('pretrain', 'cls', 'seg', 'det')
        for path in (ROOT / 'configs' / task).glob('*.py')
    ]
    left_out = ('mini', 'linear', '-ms')
    assert sorted(names) == sorted(n for n in configs if not any(w in n for w in left_out))


def what_grew(name, found, budget):
    """A sentence on what is kept beyond a budget, or less; None if nothing."""
    total, allowed = sum(found.values()), sum(budget.values())
    if abs(total / allowed - 1) <= TOLERANCE:
        return None
    parts = {part: found.get(part, 0) - budget.get(part, 0) for part in {*found, *budget}}
    part = max(parts, key=lambda part: parts[part] * (1 if total > allowed else -1))
    return (
        f'{name} keeps {total / 1e9:.2f} GB for backward, budget {allowed / 1e9:.2f}: {part} had '
        f'{budget.get(part, 0) / 1e9:.2f}, has {found.get(part, 0) / 1e9:.2f}'
    )


def test_the_sentence_names_what_grew():
    budget = dict(attn=8 * 10**9, ffn=4 * 10**9)
    assert what_grew('x', dict(budget, ffn=4.1e9), budget) is None
    more = what_grew('x', dict(budget, ffn=5e9, ln1=1e8), budget)
    assert more == 'x keeps 13.10 GB for backward, budget 12.00: ffn had 4.00, has 5.00'
    assert 'attn had 8.00, has 6.00' in what_grew('x', dict(budget, attn=6e9), budget)


@pytest.mark.slow
@pytest.mark.parametrize('task', ['pretrain', 'cls', 'seg', 'det'])
def test_budgets(task):
    complaints = []
    for fit in fitting.read_fits(BUDGETS):
        if fit.config.startswith(task):
            found = kept(config(fit.config), max(2, fit.plain.images))
            complaints.append(what_grew(fit.config, found, fit.plain.parts))
    assert not any(complaints), '\n'.join(filter(None, complaints))
