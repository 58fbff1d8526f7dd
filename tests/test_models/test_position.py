import numpy as np
import pytest
import torch

from adpe_mm.models.layers.position import (
    grid_coordinates,
    sincos_position,
    sincos_position_grid,
)


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
