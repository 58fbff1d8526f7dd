"""The average of the weights moves with the optimiser, and not with its micro-batches."""

import pytest
import torch
from mmengine.hooks import Hook

from tests.test_engine.toy import draw, make_runner


class Weights(Hook):
    """Keeps a weight and its average after every iteration."""

    priority = 'LOWEST'

    def __init__(self, average):
        self.average, self.trained, self.averaged = average, [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for model, kept in (
            (runner.model, self.trained),
            (self.average.ema_model.module, self.averaged),
        ):
            kept.append(model.layers[2].weight.detach().double().clone())


@pytest.mark.parametrize('accumulated', [1, 2, 4])
def test_it_is_the_recursion_over_optimiser_steps(accumulated, tmp_path):
    """a = (1 - m) a + m w after each step, from the weights after the first one on."""
    momentum = 0.3
    runner = make_runner(
        tmp_path / 'run',
        draw(tmp_path / 'images', number=40),
        options={
            'optim_wrapper.accumulative_counts': accumulated,
            'default_hooks.ema': dict(type='adpe_mm.EMAHook', momentum=momentum),
        },
    )
    average = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    weights = Weights(average)
    runner.register_hook(weights)
    runner.train()
    iterations, expected, steps = 20, None, 0
    assert len(weights.trained) == iterations
    for i, (trained, averaged) in enumerate(zip(weights.trained, weights.averaged, strict=True)):
        if (i + 1) % accumulated == 0:
            steps += 1
            expected = trained if expected is None else expected.lerp(trained, momentum)
        if steps:
            torch.testing.assert_close(averaged, expected, rtol=1e-5, atol=1e-7)
    assert steps == iterations // accumulated
    assert not torch.equal(weights.averaged[-1], weights.trained[-1])
