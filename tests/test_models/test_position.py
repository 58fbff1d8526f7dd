import numpy as np
import pytest
import torch
from mmpretrain.models.utils import resize_pos_embed as theirs_resized

from adpe_mm.models.layers.position import (
    grid_coordinates,
    resize_pos_embed,
    sincos_position,
    sincos_position_grid,
)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def mae_position(rows: int, columns: int, dims: int) -> np.ndarray:
    """MAE's embedding from its definition, one patch and channel at a time, in float64."""
    table = np.zeros((rows * columns, dims))
    quarter = dims // 4
    for row in range(rows):
        for column in range(columns):
            for half, place in enumerate((column, row)):
                for i in range(quarter):
                    angle = place / 10000 ** (i / quarter)
                    table[row * columns + column, half * 2 * quarter + i] = np.sin(angle)
                    table[row * columns + column, half * 2 * quarter + quarter + i] = np.cos(angle)
    return table


@pytest.mark.parametrize('grid', [(7, 7), (3, 5), (1, 4)])
def test_grid_equals_definition(grid):
    ours = sincos_position_grid(grid, 24)
    assert ours.shape == (1, 1 + grid[0] * grid[1], 24)
    assert (ours[0, 0] == 0).all()
    np.testing.assert_allclose(ours[0, 1:].numpy(), mae_position(*grid, 24), atol=1e-6)


def test_shift_has_the_analytic_gradient():
    shift = torch.tensor([0.3, -0.7], requires_grad=True)
    position = sincos_position(grid_coordinates((2, 3)) + shift, 8)
    position[:, :2].sum().backward()  # sines of x
    x = torch.tensor([0.0, 1, 2] * 2) + 0.3
    frequency = torch.tensor([1.0, 0.01])
    expected = (frequency * (x[:, None] * frequency).cos()).sum()
    torch.testing.assert_close(shift.grad, torch.stack((expected, torch.tensor(0.0))))


def test_width_must_be_a_multiple_of_4():
    with pytest.raises(ValueError, match='4 divides'):
        sincos_position(torch.zeros(1, 2), 6)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [(14, 14), (5, 9), (3, 16), (7, 6)])
def test_resized_positions_are_interpolated(mode, size):
    """Values and gradients of mmpretrain's function, also under autocast."""
    ours, theirs = (torch.randn(1, 43, 12, generator=generator(0)).requires_grad_() for _ in '12')
    expected = theirs_resized(theirs, (7, 6), size, mode, 1)
    with torch.autocast('cpu', torch.bfloat16):
        found = resize_pos_embed(ours, (7, 6), size, mode, 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    direction = torch.randn(found.shape, generator=generator(1))
    for out in (found, expected):
        (out * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_resizing_takes_no_operator_whose_gradients_are_summed_in_any_order():
    """What `torch.use_deterministic_algorithms` refuses on a GPU are upsample_*_backward."""
    position = torch.randn(1, 16, 8, requires_grad=True)
    resize_pos_embed(position, (4, 4), (6, 6), num_extra_tokens=0)  # the matrix is kept from here
    with torch.profiler.profile() as prof:
        resize_pos_embed(position, (4, 4), (6, 6), num_extra_tokens=0).sum().backward()
    names = {event.key for event in prof.key_averages()}
    assert 'aten::mm' in names or 'aten::bmm' in names
    assert not any('upsample' in name for name in names)


def test_half_precision_stays_and_equal_sizes_are_the_same_tensor():
    position = torch.randn(1, 17, 8).half()
    assert resize_pos_embed(position, (4, 4), (4, 4)) is position
    assert resize_pos_embed(position, (4, 4), (4, 5)).dtype == torch.float16
