"""The count of bytes against counts by hand, and a budget for a training step."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from adpe_mm.evaluation.imagined_gpu import GPUAttention, backward, imagine
from adpe_mm.evaluation.traffic import OUTSIDE, Traffic, count_step
from adpe_mm.models import MAEPlus
from adpe_mm.models.layers import Attention
from tests.helpers import needs_imagined_gpu, tiny_model


def count(function, *shapes, dtype=torch.float32):
    tensors = [torch.randn(shape).to(dtype) for shape in shapes]
    with Traffic() as traffic:
        function(*tensors)
    return traffic


def test_operators_by_hand():
    n = 4 * 6 * 4  # bytes of (4, 6) in float32
    for function, kind, expected in [
        (lambda x: x + x, 'pointwise', 3 * n),
        (lambda x: x.view(24).unsqueeze(0).expand(3, -1), 'pointwise', 0),
        (lambda x: x.bfloat16(), 'casts', 1.5 * n),
        (lambda x: torch.cat((x, x)), 'copies', 4 * n),
        (lambda x: x.t().contiguous(), 'copies', 2 * n),
        (lambda x: x.mm(x.t()), 'products', 2 * n + 4 * 4 * 4),
        (lambda x: F.pad(x, (0, 2)), 'copies', n * (1 + 8 / 6)),
        (lambda x: torch.empty(4, 6).copy_(x), 'copies', 2 * n),
        (lambda x: torch.add(x, 1, out=torch.empty(4, 6)), 'pointwise', 2 * n),
        (lambda x: x.add_(1), 'pointwise', 2 * n),
        (lambda x: F.layer_norm(x, (6,)), 'norms', 2 * n + 2 * 4 * 4),
    ]:
        assert count(function, (4, 6)).total()[kind] == pytest.approx(expected), kind


def test_fused_kernels_by_hand():
    n = 16 * 16 * 4

    def chain(x, w):
        y = (x + 1).relu() * x  # one kernel: reads x, writes y
        z = y @ w  # a product: reads both, writes z
        return (z.sigmoid() + y).exp()  # another: reads z and y, writes one

    found = count(chain, (16, 16), (16, 16))
    assert found.fused() == dict(pointwise=2 * n + 3 * n, products=3 * n)
    assert found.total() == dict(pointwise=(2 + 2 + 3 + 2 + 3 + 2) * n, products=3 * n)


def test_backward_is_that_of_the_engine():
    """The same operators on the same bytes, on a CPU, where PyTorch's engine runs."""
    counts = []
    for run in (torch.Tensor.backward, backward):
        torch.manual_seed(0)
        model = tiny_model('rpe', 'coordinate')
        images = torch.randn(2, 3, 16, 24)
        with torch.autocast('cpu', torch.bfloat16):
            loss = model.loss(images)['loss']
        with Traffic() as traffic:
            run(loss)
        counts.append(traffic.total())
    engine, ours = counts
    for kind in engine | ours:
        assert ours[kind] == pytest.approx(engine[kind], rel=0.02), kind


@needs_imagined_gpu
def test_an_unaligned_bias_costs_a_copy():
    found = []
    for width in (50, 56):
        with FakeTensorMode(), GPUAttention(), Traffic() as traffic:
            q = torch.empty(2, 3, 50, 64, device='cuda', dtype=torch.bfloat16)
            bias = torch.empty(2, 3, 50, width, device='cuda', dtype=torch.bfloat16)[..., :50]
            F.scaled_dot_product_attention(q, q, q, bias.requires_grad_())
        found.append(traffic.total()['copies'])
    assert found == [2 * 3 * 50 * (50 + 56) * 2, 0]


def encoder_block(position, mode, images):
    """Bytes outside of products that an encoder block of ViT-B takes, by two depths."""
    totals = []
    for depth in (1, 2):
        arch = dict(embed_dims=768, num_layers=depth, num_heads=12, feedforward_channels=3072)
        with torch.device('meta'):
            model = MAEPlus(
                backbone=dict(
                    type='adpe_mm.AdPEPretrainViT',
                    arch=arch,
                    position=position,
                    rpe_lookup='interpolate' if mode == 'coordinate' else 'bucket',
                ),
                neck=dict(type='adpe_mm.AdPEDecoder', embed_dims=64, num_layers=1, num_heads=1),
                adversary=mode and dict(type='adpe_mm.AdversarialPosition', mode=mode),
            )
        total = count_step(model.train(), 4 * images, 112).total()
        totals.append(sum(total[kind] for kind in OUTSIDE))
    return totals[1] - totals[0]


# Bytes per entry of the (tokens, 768) residual stream, 2 in bfloat16 and 4 in float32. Forward:
# two branches that round (4 + 2), normalise (2 + 2) and are added (4 + 2 + 4); GELU (8 + 8).
# Backward: their gradients rounded (4 + 2), normalised (2 + 2 + 2) and added (4 + 2 + 4); GELU
# (8 + 8 + 8); query, key and value brought together (6 + 6); biases' sums (6 + 2 + 8 + 2).
ABSOLUTE = 2 * 20 + 16 + 2 * 22 + 24 + 12 + 18
# Queries contiguous by place (2 + 2), and their two gradients added (2 + 2 + 2).
RELATIVE = ABSOLUTE + 4 + 6
# Queries widened (2 + 4) in place of that, the gradients of both halves added (4 + 2).
ADVERSARY = ABSOLUTE + 6 + 6 + 6


@needs_imagined_gpu
@pytest.mark.parametrize(
    'position, mode, entry',
    [('ape', None, ABSOLUTE), ('rpe', None, RELATIVE), ('rpe', 'coordinate', ADVERSARY)],
)
def test_a_block_moves_no_more_than_it_must(position, mode, entry):
    """Per image of 4 crops of 50 tokens; weights and tables cost the same for any batch."""
    per_image = (encoder_block(position, mode, 48) - encoder_block(position, mode, 16)) / 32
    assert per_image == pytest.approx(entry * 4 * 50 * 768, rel=0.01)


@needs_imagined_gpu
def test_no_kernel_of_attention_is_mathematics():
    """Windows of ViTDet, whose widened queries once had no fused kernel."""
    layer = Attention(128, 2, decomposed_rpe_size=(14, 14)).bfloat16()
    with FakeTensorMode(), GPUAttention(), Traffic() as traffic:
        imagine(layer)(torch.empty(2, 196, 128, device='cuda', dtype=torch.bfloat16), (14, 14))
    names = {call.name for call in traffic.calls if call.kind == 'attention'}
    assert names == {'_scaled_dot_product_efficient_attention'}
