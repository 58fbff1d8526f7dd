"""What ``randomness.deterministic=True`` would be refused on a GPU, by the operators that run."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode

from adpe_mm.evaluation.memory import imagined
from adpe_mm.evaluation.workload import example, forward
from adpe_mm.models.layers import irpe_kernels

ROOT = Path(__file__).parents[2]
# What `torch.use_deterministic_algorithms` lists as refused on CUDA, of what these networks may
# have. A bilinear `interpolate` goes another way when it must (torch.nn.functional); the bicubic
# one of positions, which ViTDet resizes at every step, is not looked at here.
REFUSED = {
    '_adaptive_avg_pool2d_backward', 'adaptive_max_pool2d_backward', 'avg_pool3d_backward',
    'fractional_max_pool2d_backward', 'grid_sampler_2d_backward', 'grid_sampler_3d_backward',
    'histc', 'kthvalue', 'max_unpool2d', 'median', 'nll_loss2d_backward', 'nll_loss2d_forward',
    'reflection_pad2d_backward', 'upsample_linear1d_backward',
}  # fmt: skip


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'name, refused',
    [
        ('pretrain/maeplus_vit-mini_ape_mini', set()),
        ('pretrain/adpe_vit-mini_ape-embed_mini', set()),
        ('pretrain/adpe_vit-mini_ape-coord_mini', set()),
        ('pretrain/adpe_vit-mini_rpe-embed_mini', set()),
        ('pretrain/adpe_vit-mini_mini', set()),
        ('cls/adpe-vit-mini_mini', set()),
        (
            'seg/upernet_adpe-vit-mini_mini',
            {'nll_loss2d_forward', 'nll_loss2d_backward', '_adaptive_avg_pool2d_backward'},
        ),
        ('det/mask-rcnn_adpe-vit-mini_mini', set()),
    ],
)
def test_operators_of_a_step(monkeypatch, name, refused):
    monkeypatch.setattr(irpe_kernels, 'GATHERING_DEVICES', ())  # the way of a GPU
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    operators = Operators()
    with imagined(cfg, 'cpu') as model, operators:
        forward(model, example(cfg, 2)).backward()
    assert operators.found & REFUSED == refused
    assert torch.ops.aten.native_layer_norm_backward.__name__ in operators.found
