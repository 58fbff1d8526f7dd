import random
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from adpe_mm.datasets import SampleKey, collate_crops
from adpe_mm.evaluation import ReconstructionHook
from adpe_mm.evaluation.drawing import (
    GREY,
    columns_of,
    plot_adversary,
    reconstruction_rows,
    reconstruction_sheet,
    to_pixels,
)
from adpe_mm.models.selfsup.mae_plus import patchify
from tests.helpers import VARIANTS, tiny_model


def test_to_pixels_undoes_the_normalisation():
    model = tiny_model()
    crops = torch.randint(0, 256, (2, 3, 3, 16, 24), dtype=torch.uint8)
    preprocessor = model.data_preprocessor
    inputs = preprocessor(dict(inputs=crops))['inputs']
    pixels = to_pixels(inputs, preprocessor.mean, preprocessor.std)
    assert np.array_equal(pixels, crops.flatten(0, 1).permute(0, 2, 3, 1).numpy())


def test_visible_pixels_are_the_input_and_removed_ones_are_predicted():
    model = tiny_model()
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs, noise = torch.randn(2, 3, 16, 24), torch.rand(2, 24)
    prediction, masked = model.reconstruct(inputs, noise)
    rows = reconstruction_rows(inputs, masked, prediction, mean, std)
    given, holes, pasted, predicted = np.split(rows, 4, axis=2)
    removed = masked[:, 0].numpy()
    # The mask on its own: a patch is removed as a whole.
    assert torch.equal(patchify(masked, 4).all(-1), model.backbone.draw_mask(inputs, noise).masked)
    assert (given == to_pixels(inputs, mean, std)).all()
    assert (holes[~removed] == given[~removed]).all() and (holes[removed] == GREY).all()
    assert (pasted[~removed] == given[~removed]).all()
    assert (pasted[removed] == predicted[removed]).all()
    sheet = reconstruction_sheet(rows, side=48, gap=2)
    assert sheet.shape == (24 + 2 * (48 + 2), 4 * (72 + 2) - 2, 3)
    assert (sheet[24 : 24 + 48 : 3, :72:3] == given[0]).all()


@pytest.mark.parametrize('position, mode', [variant for variant in VARIANTS if variant[1]])
def test_plot_of_every_adversary(position, mode):
    still, moved = (tiny_model(position, mode, norm='l2', eps=2.0).adversary for _ in range(2))
    with torch.no_grad():
        for one, other in zip(still.parameters(), moved.parameters(), strict=True):
            one.zero_()
            other.fill_(0.3)
    images = [plot_adversary(adversary, (4, 6)) for adversary in (still, moved)]
    assert images[0].shape == (400, 800, 3) and images[0].dtype == np.uint8
    assert not np.array_equal(*images)


def test_hook_draws_and_touches_nothing_of_the_run():
    model = tiny_model('rpe', 'coordinate')
    drawn = {}

    class Visualizer:
        def add_image(self, name, image, step):
            drawn[name] = image, step

    class Images:
        """Five images of four crops each, of which the key says what is drawn."""

        asked: ClassVar = []

        def __len__(self):
            return 5

        def __getitem__(self, key):
            self.asked.append(int(key))
            np.random.rand(), random.random()  # a pipeline of the user's may do so
            torch.manual_seed(key.rng().randrange(2**31))
            crops = torch.randint(0, 256, (4, 3, 16, 24), dtype=torch.uint8)
            return dict(inputs=crops, mirrored=[False, True, True, False], unreadable=[])

    loader = DataLoader(Images(), collate_fn=collate_crops)
    runner = SimpleNamespace(
        model=model, visualizer=Visualizer(), epoch=4, max_epochs=99, train_dataloader=loader
    )
    hook = ReconstructionHook(interval=5, num_images=3)
    assert isinstance(hook, Hook)
    model.train()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    hook.before_train(runner)
    assert Images.asked == [0, 2, 4]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    hook.after_train_epoch(runner)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]
    assert model.training
    assert all(torch.equal(weights[n], value) for n, value in model.state_dict().items())
    assert {name: step for name, (_, step) in drawn.items()} == {
        'reconstruction': 5,
        'adversary': 5,
    }
    first = drawn['reconstruction'][0]
    hook.after_train_epoch(runner)
    assert np.array_equal(drawn['reconstruction'][0], first)  # the same masks again
    shown = columns_of(first)['input'][:, ::10, ::10]  # a scale of 168 / 16
    expected = [loader.dataset[SampleKey(i, 0, 0)]['inputs'][0] for i in (0, 2, 4)]
    assert np.array_equal(shown, torch.stack(expected).permute(0, 2, 3, 1).numpy())

    resumed = ReconstructionHook(interval=5, num_images=3)
    resumed.before_train(runner)
    resumed.after_train_epoch(runner)
    assert np.array_equal(drawn['reconstruction'][0], first)  # the same crops, too

    drawn.clear()
    runner.epoch = 5
    hook.after_train_epoch(runner)
    assert drawn == {}
    runner.epoch = 98
    hook.after_train_epoch(runner)
    assert set(drawn) == {'reconstruction', 'adversary'}
