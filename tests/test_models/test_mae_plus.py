import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.parallel import DistributedDataParallel

from adpe_mm.models import AdPEDecoder, AdPEPretrainViT, AdPEViT
from adpe_mm.models.selfsup.mae_plus import patchify, unpatchify
from adpe_mm.registry import MODELS
from tests.helpers import VARIANTS, tiny_config, tiny_model


def test_patchify_cuts_row_by_row_and_back():
    images = torch.randn(2, 3, 8, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 6, 48)
    for i, (row, column) in enumerate([(r, c) for r in range(2) for c in range(3)]):
        patch = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.equal(patches[:, i], patch.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, (2, 3), 4), images)


@settings(max_examples=30, deadline=None)
@given(ratio=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_patches_with_the_largest_noise_are_masked(ratio, seed):
    model = tiny_model()
    model.backbone.mask_ratio = ratio
    noise = torch.rand(5, 24, generator=torch.Generator().manual_seed(seed))
    kept = int(24 * (1 - ratio))
    if not 0 < kept < 24:
        return
    mask = model.backbone.draw_mask(torch.zeros(5, 3, 16, 24), noise)
    masked = mask.masked
    assert ((~masked).sum(1) == kept).all()
    assert mask.grid_size == (4, 6)
    for crop in range(5):
        assert mask.indices[crop].tolist() == masked[crop].nonzero().flatten().tolist()
    assert (noise.masked_fill(masked, -1).amax(1) < noise.masked_fill(~masked, 2).amin(1)).all()


@pytest.mark.parametrize('position, mode', VARIANTS)
def test_every_parameter_has_a_gradient(position, mode):
    """DDP then needs no `find_unused_parameters`."""
    model = tiny_model(position, mode)
    model.loss(torch.randn(2, 3, 16, 24))['loss'].backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize('position', ['ape', 'rpe'])
def test_zero_shift_is_mae_plus(position):
    noise, images = torch.rand(2, 24), torch.randn(2, 3, 16, 24)
    adpe = tiny_model(position, 'coordinate', norm='linf', eps=0.0)
    config = tiny_config(position, None)
    config['backbone'].update(rpe_lookup='interpolate')
    plain = MODELS.build(config)
    weights = adpe.state_dict()
    plain.load_state_dict({n: v for n, v in weights.items() if not n.startswith('adversary.')})
    ours, baseline = (model.loss(images, noise=noise)['loss'] for model in (adpe, plain))
    torch.testing.assert_close(ours, baseline, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('position', ['ape', 'rpe'])
def test_visible_patches_only_are_seen_and_masked_ones_only_count(position):
    model, noise, images = tiny_model(position, None), torch.rand(3, 24), torch.randn(3, 3, 16, 24)
    masked = model.backbone.draw_mask(images, noise).masked
    pixels = masked.unflatten(1, (4, 6)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    pred, _ = model.predict_patches(images, noise)
    other = torch.where(pixels[:, None], torch.randn_like(images), images)
    assert torch.equal(model.predict_patches(other, noise)[0], pred)

    patches = patchify(images, 4)
    target = (patches - patches.mean(-1, True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    expected = F.mse_loss(pred[masked], target[masked])
    torch.testing.assert_close(model.loss(images, noise=noise)['loss'], expected)
    model.normalize_target = False
    expected = F.mse_loss(pred[masked], patches[masked])
    torch.testing.assert_close(model.loss(images, noise=noise)['loss'], expected)


@pytest.mark.parametrize('mode', [None, 'coordinate'])
def test_masked_patches_alone_are_predicted_in_their_order(mode):
    model, latent = tiny_model('rpe', mode), torch.randn(3, 25, 24)
    mask = model.backbone.draw_mask(torch.zeros(3, 3, 16, 24))
    every = model.neck(latent, mask, model.adversary)
    assert every.shape == (3, 24, 48)
    some = model.neck(latent, mask, model.adversary, masked_only=True)
    for crop in range(3):
        torch.testing.assert_close(some[crop], every[crop, mask.masked[crop]])


def test_reconstruction_undoes_the_normalisation():
    model, noise, images = tiny_model('ape', None), torch.rand(2, 24), torch.randn(2, 3, 16, 24)
    prediction, pixels = model.reconstruct(images, noise)
    patches = patchify(images, 4)
    predicted = patchify(prediction, 4)
    pred, mask = model.predict_patches(images, noise)
    deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close((predicted - patches.mean(-1, True)) / deviation, pred)
    assert pixels.shape == (2, 1, 16, 24)
    assert torch.equal(patchify(pixels, 4).all(-1), mask.masked)


def test_crops_of_another_size_and_features():
    model = tiny_model('rpe', 'coordinate')
    assert model.loss(torch.randn(2, 3, 24, 12))['loss'].isfinite()
    images = torch.randn(2, 3, 16, 24)
    assert model.extract_feat(images)[0].shape == (2, 25, 24)
    vit = AdPEViT(
        dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
        img_size=(16, 24), patch_size=4, position='rpe', rpe_lookup='interpolate', out_type='raw',
    )  # fmt: skip
    weights = model.backbone.state_dict()
    del weights['mask_token']
    vit.load_state_dict(weights)
    assert torch.equal(model.backbone(images)[0], vit(images)[0])  # nothing is masked
    with pytest.raises(ValueError, match='cannot be cut into patches'):
        model.loss(torch.randn(2, 3, 18, 24))


@pytest.mark.parametrize('dtype', [torch.bfloat16])
def test_autocast_stays_close_to_float32(dtype):
    model, noise, images = tiny_model(), torch.rand(4, 24), torch.randn(4, 3, 16, 24)
    exact = model.loss(images, noise=noise)['loss']
    with torch.autocast('cpu', dtype):
        rough = model.loss(images, noise=noise)['loss']
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(mask_ratio=0.0), 'mask_ratio'),
        (dict(mask_ratio=1.0), 'mask_ratio'),
        (dict(mask_ratio=0.99), 'keeps 0 of 24'),
        (dict(img_size=(16, 22)), 'must divide the crop'),
    ],
)
def test_mistakes_of_the_backbone(kwargs, message):
    config = tiny_config()['backbone'] | kwargs
    config.pop('type')
    with pytest.raises(ValueError, match=message):
        AdPEPretrainViT(**config)


def test_a_decoder_has_a_block():
    with pytest.raises(ValueError, match='num_layers'):
        AdPEDecoder(24, 4, num_layers=0)


def _half_batch(rank: int, store: str, variant: tuple, results: dict) -> None:
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = tiny_model(*variant)
    images, noise = torch.randn(4, 3, 16, 24), torch.rand(4, 24)
    half = slice(2 * rank, 2 * rank + 2)
    wrapped = DistributedDataParallel(_Loss(model))
    loss = wrapped(images[half], noise[half])
    loss.backward()
    results[rank] = (
        loss.item(),
        {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None},
    )
    dist.destroy_process_group()


class _Loss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, noise):
        return self.model.loss(images, noise=noise)['loss']


@pytest.mark.slow
@pytest.mark.parametrize('variant', [('ape', 'embedding'), ('rpe', 'coordinate')])
def test_two_processes_equal_one(tmp_path, variant):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_half_batch, (str(tmp_path / 'store'), variant, results), nprocs=2)
        halves = dict(results)
    torch.manual_seed(0)
    model = tiny_model(*variant)
    images, noise = torch.randn(4, 3, 16, 24), torch.rand(4, 24)
    loss = model.loss(images, noise=noise)['loss']
    loss.backward()
    assert (halves[0][0] + halves[1][0]) / 2 == pytest.approx(loss.item(), rel=1e-6)
    for name, param in model.named_parameters():
        if param.grad is not None:
            for rank in (0, 1):
                torch.testing.assert_close(
                    torch.from_numpy(halves[rank][1][name]), param.grad, atol=1e-6, rtol=1e-4
                )
