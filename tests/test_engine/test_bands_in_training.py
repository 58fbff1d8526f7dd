"""Training on images of six bands, and on several folders, by the runner."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from adpe_mm.engine import AdPERunner
from adpe_mm.models.selfsup.reference import plain_loss
from adpe_mm.registry import MODELS
from tests.helpers import tiny_config, tiny_model
from tests.test_engine.toy import ADPE, Stopped, assert_same, draw, final_state, make_runner, stop

MEAN, STD = [100.0] * 6, [50.0] * 6


def network(channels=6, mode='coordinate'):
    config = tiny_config(mode=mode)
    config['backbone']['in_channels'] = channels
    return config


def six_bands(folder):
    folder.mkdir()
    for i in range(20):
        values = np.random.default_rng(i).integers(0, 999, (32, 40, 6), dtype=np.uint16)
        np.save(folder / f'{i:02}.npy', values)
    return folder


STATISTICS = {
    'model.data_preprocessor.mean': MEAN,
    'model.data_preprocessor.std': STD,
    'default_hooks.checkpoint_fit': dict(type='adpe_mm.CheckpointFitHook'),
}


def test_pretraining_of_six_bands_resumes_exactly_and_begins_from_rgb(tmp_path):
    data = six_bands(tmp_path / 'data')
    whole = make_runner(tmp_path / 'whole', data, model=network(), options=STATISTICS)
    assert whole.cfg.train_dataloader.dataset.pipeline[0].channels == 6
    whole.train()
    assert whole.model.neck.predict.out_features == 4 * 4 * 6
    first = make_runner(tmp_path / 'broken', data, {3: stop}, network(), STATISTICS)
    with pytest.raises(Stopped):
        first.train()
    again = make_runner(tmp_path / 'broken', data, None, network(), dict(STATISTICS, resume=True))
    again.train()
    assert first.record.losses | again.record.losses == whole.record.losses
    assert_same(final_state(again), final_state(whole))

    rgb = tiny_model()
    torch.save(dict(state_dict=rgb.state_dict()), tmp_path / 'rgb.pth')
    begun = make_runner(
        tmp_path / 'begun', data, None, network(),
        dict(STATISTICS, load_from=str(tmp_path / 'rgb.pth')),
    )  # fmt: skip
    begun.load_or_resume()
    kernel = begun.model.backbone.patch_embed.projection.weight
    given = rgb.backbone.patch_embed.projection.weight
    torch.testing.assert_close(kernel, torch.cat((given, given), dim=1) / 2)
    inner = 'layers.1.attn.qkv.weight'
    assert torch.equal(begun.model.backbone.state_dict()[inner], rgb.backbone.state_dict()[inner])


def test_to_resume_with_other_bands_is_refused(tmp_path):
    data = draw(tmp_path / 'images')
    with pytest.raises(Stopped):
        make_runner(tmp_path / 'run', data, {2: stop}, ADPE).train()
    resumed = make_runner(
        tmp_path / 'run', six_bands(tmp_path / 'six'), None, network(),
        dict(STATISTICS, resume=True),
    )  # fmt: skip
    with pytest.raises(ValueError, match='another network than the config describes'):
        resumed.train()


def test_mean_of_another_number_of_bands_is_one_sentence(tmp_path):
    data = six_bands(tmp_path / 'data')
    with pytest.raises(ValueError, match='mean has 3 values.*in_channels is 6'):
        make_runner(tmp_path / 'run', data, model=network())


def test_a_config_in_a_notebook_is_fitted_too(tmp_path):
    runner = make_runner(
        tmp_path / 'run', six_bands(tmp_path / 'data'), model=network(), options=STATISTICS
    )
    assert isinstance(runner, AdPERunner) and isinstance(runner.cfg, Config)
    assert runner.cfg.train_dataloader.dataset.pipeline[0].channels == 6


@pytest.mark.parametrize('normalised', [True, False])
@pytest.mark.parametrize('channels', [1, 4, 6])
def test_the_loss_is_that_of_the_method_in_plain_torch(channels, normalised):
    config = network(channels)
    ones = [1.0] * channels
    config.update(normalize_target=normalised, data_preprocessor=dict(mean=ones, std=ones))
    model = MODELS.build(config)
    model.init_weights()
    images, noise = torch.randn(3, channels, 16, 24), torch.rand(3, 24)
    loss = model.loss(images, noise=noise)['loss']
    torch.testing.assert_close(loss, plain_loss(model, images, noise))
    # The target of a patch, by its definition: over all its values, bands together.
    mask = model.backbone.draw_mask(images, noise)
    target = model.target(images, mask)
    row, column = divmod(int(mask.indices[1, 0]), 6)
    patch = images[1, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
    if normalised:
        patch = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
    torch.testing.assert_close(target[1, 0], patch.permute(1, 2, 0).flatten())


def test_several_folders_train_as_one_and_resume_exactly(tmp_path):
    one = draw(tmp_path / 'one', 22, broken=(3, 15))
    roots = [tmp_path / 'a', tmp_path / 'b']
    for path in sorted(one.iterdir()):
        root = roots[int(path.stem) >= 9]
        root.mkdir(exist_ok=True)
        (root / path.name).write_bytes(path.read_bytes())
    whole = make_runner(tmp_path / 'whole', one, model=ADPE)
    whole.train()
    listed = {'train_dataloader.dataset.data_root': list(map(str, roots))}
    with pytest.raises(Stopped):
        (first := make_runner(tmp_path / 'list', one, {7: stop}, ADPE, listed)).train()
    again = make_runner(tmp_path / 'list', one, None, ADPE, dict(listed, resume=True))
    again.train()
    assert first.record.losses | again.record.losses == whole.record.losses
    assert_same(final_state(again), final_state(whole))


def test_concatenated_data_sets_train_as_one_and_resume_exactly(tmp_path):
    one = draw(tmp_path / 'one', 20)
    part = dict(
        type='adpe_mm.Images',
        pipeline=[
            dict(type='adpe_mm.MultiCrop', num_crops=2, size=(16, 24)),
            dict(type='adpe_mm.PackCrops'),
        ],
    )
    roots = [tmp_path / 'a', tmp_path / 'b']
    for path in sorted(one.iterdir()):
        root = roots[int(path.stem) >= 9]
        root.mkdir(exist_ok=True)
        (root / path.name).write_bytes(path.read_bytes())
    whole = make_runner(tmp_path / 'whole', one, model=ADPE)
    whole.train()
    parts = [dict(part, data_root=str(root)) for root in roots]
    joined = dict(_delete_=True, type='ConcatDataset', datasets=parts)
    options = {'train_dataloader.dataset': joined}
    with pytest.raises(Stopped):
        (first := make_runner(tmp_path / 'joined', one, {7: stop}, ADPE, options)).train()
    again = make_runner(tmp_path / 'joined', one, None, ADPE, dict(options, resume=True))
    again.train()
    assert first.record.losses | again.record.losses == whole.record.losses
    assert_same(final_state(again), final_state(whole))
