"""Forward on a GPU that need not be there: each tensor's device is known, its values are not.

So it is an error to mix devices, and to look at a value, for which the host would wait.
"""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from adpe_mm.evaluation.imagined_gpu import imagine
from adpe_mm.models import AdPEViT, MultiCropPreprocessor
from tests.helpers import VARIANTS, needs_imagined_gpu, tiny_model

pytestmark = needs_imagined_gpu


@pytest.fixture
def to_gpu():
    """Moves a network there; from then on all new tensors are imagined, until the test ends."""
    with ExitStack() as stack:

        def move(network: nn.Module) -> nn.Module:
            stack.enter_context(FakeTensorMode())
            return imagine(network)

        yield move


def test_it_finds_what_it_is_for(to_gpu):
    x = to_gpu(nn.Linear(2, 2)).weight
    with pytest.raises(RuntimeError, match='device'):
        x + torch.empty(2)
    with pytest.raises(DataDependentOutputException):
        x.sum().item()


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_pretraining(to_gpu, position, mode):
    model = to_gpu(tiny_model(position, mode, **(dict(norm='l2', eps=1.0) if mode else {})))
    preprocessor = MultiCropPreprocessor().to('cuda')
    crops = torch.empty(2, 4, 3, 16, 24, dtype=torch.uint8)
    inputs = preprocessor(dict(inputs=crops, mirrored=np.zeros((2, 4), bool)))['inputs']
    outputs = model.loss(inputs)
    assert outputs['loss'].device.type == 'cuda' and outputs['loss'].shape == ()
    if mode:
        model.adversary.project()
        assert all(value.device.type == 'cuda' for value in model.adversary.state().values())


@pytest.mark.parametrize(
    'settings',
    [
        dict(position='rpe', rpe_lookup='interpolate'),
        dict(position='rpe', with_cls_token=False, window_size=14),
        dict(position='ape', with_cls_token=False, window_size=14, decomposed_rpe=True),
        dict(position='ape', rel_pos_bias=True),
    ],
)
def test_dense_tasks(to_gpu, settings):
    """At a size where iRPE goes by rows, and another than that of pretraining."""
    arch = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)
    backbone = AdPEViT(arch, img_size=1024, out_type='featmap', final_norm=False, **settings)
    (features,) = to_gpu(backbone)(torch.empty(1, 3, 800, 1024, device='cuda'))
    assert features.device.type == 'cuda' and features.shape == (1, 24, 50, 64)
