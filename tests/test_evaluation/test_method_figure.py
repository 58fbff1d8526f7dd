"""The figure of the method shows where a network's adversary moves masked patches."""

import numpy as np
import pytest
import torch
from matplotlib.quiver import Quiver

from adpe_mm.evaluation.method_figure import draw_method, method_figure, shift_of
from tests.helpers import tiny_model


def moved(position, mode='coordinate'):
    model = tiny_model(position, mode, norm='linf', eps=3.0).eval()
    with torch.no_grad():
        for i, param in enumerate(model.adversary.parameters()):
            param.copy_(torch.tensor([1.0, -2.0]) + i)
    return model


def test_shift_is_to_the_right_and_down():
    """On absolute positions it is (dx, dy), on relative ones (rows, columns) of a block."""
    assert shift_of(moved('ape').adversary) == (1.0, -2.0)
    assert shift_of(moved('rpe').adversary) == (-2.0, 1.0)
    assert shift_of(moved('rpe').adversary, block=1) == (-1.0, 2.0)
    with pytest.raises(ValueError, match=r'--block must lie in 0\.\.1, got 2'):
        shift_of(moved('rpe').adversary, block=2)
    for mode in ('embedding', None):
        with pytest.raises(ValueError, match='only an adversary in coordinate mode'):
            shift_of(tiny_model('ape', mode).adversary)


def test_an_arrow_from_each_masked_patch():
    masked = np.zeros((4, 6), bool)
    masked[1, 2] = masked[3, 0] = masked[0, 5] = True
    image = np.zeros((16, 24, 3), np.uint8)
    figure = method_figure(image, masked, image, (1.5, -2.0))
    (arrows,) = (
        child for axes in figure.axes for child in axes.get_children() if isinstance(child, Quiver)
    )
    assert {tuple(place) for place in arrows.XY} == {(2, 1), (0, 3), (5, 0)}
    assert (arrows.U == 1.5).all() and (arrows.V == -2).all()
    top, right = arrows.axes.get_ylim()[1], arrows.axes.get_xlim()[1]
    assert top < -2.5 and right > 7  # what leaves the image is seen


def test_the_same_network_gives_the_same_bytes(tmp_path):
    model, inputs = moved('rpe'), torch.randn(1, 3, 16, 24)
    for name in ('a.png', 'b.png'):
        draw_method(model, inputs).savefig(tmp_path / name, dpi=100)
    first, second = ((tmp_path / name).read_bytes() for name in ('a.png', 'b.png'))
    assert first == second
    titles = [axes.get_title() for axes in draw_method(model, inputs).axes]
    assert titles[1:3] == ['75 % are masked ...', '... and moved by (-2.0, +1.0) patches']
