"""Under autocast on a GPU that need not be there, no product mixes precisions: kernels refuse that.

Imagined tensors do not by themselves, and autocast on a CPU casts other operators.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from adpe_mm.evaluation.imagined_gpu import autocast_on_imagined_gpu
from adpe_mm.models.layers import Attention
from adpe_mm.models.layers.irpe import Perturbation
from tests.helpers import ProductsOfOneDtype, needs_imagined_gpu

pytestmark = needs_imagined_gpu


@pytest.fixture
def gpu():
    """Imagined tensors, and autocast in bfloat16."""
    with FakeTensorMode(), ProductsOfOneDtype(), autocast_on_imagined_gpu(torch.bfloat16):
        yield torch.device('cuda')


def test_it_finds_what_it_is_for(gpu):
    one, other = torch.empty(2, 2, device=gpu), torch.empty(2, 2, device=gpu, dtype=torch.bfloat16)
    assert (one @ other).dtype == torch.bfloat16  # autocast
    torch.set_autocast_enabled('cuda', False)
    with pytest.raises(AssertionError, match='aten.mm'):
        one @ other


@pytest.mark.parametrize('side', [7, 32, 64])  # of all ways to look up
@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(position='rpe', rpe_lookup='bucket'),
        dict(position='rpe', rpe_lookup='interpolate'),
        dict(decomposed_rpe_size=(14, 14)),
        dict(rel_pos_bias_size=(14, 14)),
    ],
)
def test_attention(gpu, settings, side):
    with gpu:
        layer = Attention(128, 2, **settings)
    out = layer(torch.empty(2, side**2, 128, device=gpu), (side, side))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize('part', ['shift', 'delta'])
def test_what_the_adversary_moves(gpu, part):
    with gpu:
        layer = Attention(128, 2, position='rpe', rpe_lookup='interpolate')
        moved = dict(shift=torch.empty(2), delta=torch.empty(64, 50))[part]
        masked = torch.empty(2, 49, dtype=torch.bool)
    out = layer(torch.empty(2, 50, 128, device=gpu), (7, 7), Perturbation(masked, **{part: moved}))
    assert out.dtype == torch.bfloat16
