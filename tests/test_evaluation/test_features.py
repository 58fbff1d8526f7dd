"""Features against plain torch and Pillow, and given in each form."""

import numpy as np
import pytest
import torch
from mmcv.transforms import CenterCrop
from mmpretrain.datasets.transforms.processing import ResizeEdge
from PIL import Image

from adpe_mm import extract_features, iterate_features
from adpe_mm.evaluation import features
from adpe_mm.evaluation.features import central_crop
from adpe_mm.models import AdPEViT
from adpe_mm.models.selfsup.reference import blocks
from tests.helpers import tiny_model

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def network(**options) -> AdPEViT:
    settings = dict(arch=ARCH, img_size=28, patch_size=4, position='rpe', **options)
    model = AdPEViT(**settings)
    with torch.no_grad():
        for param in model.parameters():
            param.normal_(std=0.2)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    """Images of one size and of several modes."""
    rng = np.random.default_rng(0)
    (tmp_path / 'images' / 'more').mkdir(parents=True)
    for i, (mode, name) in enumerate(
        [('RGB', 'a.png'), ('L', 'b.png'), ('CMYK', 'c.jpg'), ('I;16', 'more/d.png'),
         ('RGB', 'more/e.jpg')]
    ):  # fmt: skip
        depth, shape = np.uint8, (40, 52)
        if mode == 'I;16':
            depth = np.uint16
        elif mode != 'L':
            shape += (len(mode),)
        pixels = rng.integers(0, np.iinfo(depth).max, shape).astype(depth)
        image = Image.fromarray(pixels, mode='CMYK') if mode == 'CMYK' else Image.fromarray(pixels)
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image.save(tmp_path / 'images' / name, **(dict(exif=exif) if i == 4 else {}))
    return tmp_path / 'images'


def as_rgb(path) -> np.ndarray:
    image = Image.open(path)
    if image.mode.startswith('I'):
        values = np.asarray(image).astype(float)
        grey = np.interp(values, np.quantile(values, (0.01, 0.99)), (0, 255))
        image = Image.fromarray(grey.round().astype(np.uint8))
    turned = slice(None, None, -1 if image.getexif().get(0x0112) == 3 else 1)
    return np.array(image.convert('RGB'))[turned, turned]


def plain_tokens(model: AdPEViT, pixels: np.ndarray) -> torch.Tensor:
    """(1, L, E) of an RGB image of 40 x 52, by Pillow and plain torch."""
    image = Image.fromarray(pixels).resize((41, 32), Image.Resampling.BICUBIC)  # 28 * 256 / 224
    image = np.array(image.crop((6, 2, 34, 30)))
    x = (torch.from_numpy(image).permute(2, 0, 1).float() - MEAN) / STD
    weight, bias = model.patch_embed.projection.weight, model.patch_embed.projection.bias
    x = torch.nn.functional.conv2d(x[None], weight, bias, stride=4).flatten(2).transpose(1, 2)
    x = torch.cat((model.cls_token, x), dim=1) + model.pos_embed
    return model.ln1(blocks(model.layers, x, (7, 7), None))


def test_all_forms_against_plain_torch(folder):
    model = network()
    paths = [str(folder / name) for name in ('a.png', 'b.png', 'c.jpg', 'more/d.png', 'more/e.jpg')]
    pixels = [as_rgb(path) for path in paths]
    with torch.no_grad():
        tokens = torch.cat([plain_tokens(model, image) for image in pixels])
    expected = dict(
        cls=tokens[:, 0], mean=tokens[:, 1:].mean(1), maps=tokens[:, 1:].mT.unflatten(2, (7, 7))
    )
    stacked = np.stack(pixels)
    planes = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    for out, values in expected.items():
        found, keys = extract_features(model, folder, out, batch_size=2, num_workers=1)
        assert keys == paths and found.dtype == np.float32
        np.testing.assert_allclose(found, values.numpy(), atol=1e-5)
        for images, wanted in [
            (paths, paths),
            ([folder / 'a.png', folder / 'b.png', folder / 'c.jpg', folder / 'more'], paths),
            (stacked, list(range(5))),
            (planes, list(range(5))),
        ]:
            same, keys = extract_features(model, images, out, batch_size=2, num_workers=0)
            assert keys == wanted
            np.testing.assert_array_equal(same, found)


def test_floats_are_taken_as_they_are():
    model = network()
    images = torch.randn(5, 3, 28, 32)
    found, keys = extract_features(model, images, 'cls', batch_size=2)
    assert keys == list(range(5))
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images)[0].numpy(), atol=1e-6)


def test_layers():
    model = network().train()
    images = torch.randn(3, 3, 28, 32)
    several, _ = extract_features(model, images, 'maps', layers=[0, -1], batch_size=2)
    assert [maps.shape for maps in several] == [(3, 24, 7, 8)] * 2
    assert model.training and model.out_type == 'cls_token' and model.out_indices == [1]
    for layer, maps in zip((0, 1), several, strict=True):
        one, _ = extract_features(model, images, 'maps', layers=layer)
        np.testing.assert_allclose(one, maps, atol=1e-6)
    expected = network(out_type='featmap', out_indices=[0, 1])
    expected.load_state_dict(model.state_dict())
    with torch.no_grad():
        for maps, values in zip(several, expected(images), strict=True):
            np.testing.assert_allclose(maps, values.numpy(), atol=1e-6)


def test_mean_of_a_classifier_has_its_norm():
    model = network(out_type='avg_featmap', final_norm=False)
    images = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        found, _ = extract_features(model, images)
        np.testing.assert_allclose(found, model(images)[0].numpy(), atol=1e-6)


def test_of_a_whole_network_and_its_own_statistics():
    model = tiny_model('ape', 'coordinate', img_size=16).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 20, 20, 3), dtype=np.uint8)
    whole, _ = extract_features(model, pixels)
    np.testing.assert_array_equal(whole, extract_features(model.backbone, pixels)[0])
    model.data_preprocessor.mean.zero_()
    assert np.abs(whole - extract_features(model, pixels)[0]).max() > 1e-3


@pytest.mark.parametrize('height, width, size', [(50, 71, 28), (300, 200, 224), (31, 30, 28)])
def test_crop_is_the_one_of_the_evaluation(height, width, size):
    """Bit for bit what mmpretrain's transforms make in configs/_base_/datasets."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    results = dict(img=pixels)
    edge = dict(scale=size * 256 // 224, edge='short', backend='pillow', interpolation='bicubic')
    for step in (ResizeEdge(**edge), CenterCrop(size)):
        results = step(results)
    np.testing.assert_array_equal(
        central_crop(Image.fromarray(pixels), (size, size)), results['img']
    )


def test_size():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 90, 60, 3), dtype=np.uint8)
    for size, grid in [(None, (7, 7)), (56, (14, 14)), ((28, 56), (7, 14))]:
        assert extract_features(network(), pixels, 'maps', size=size)[0].shape[2:] == grid


def test_unreadable_images_are_named_and_left_out(folder, monkeypatch):
    said = []
    monkeypatch.setattr(features, 'print_log', lambda text, **_: said.append(text))
    (folder / 'broken.jpg').write_bytes(b'broken')
    found, paths = extract_features(network(), folder, batch_size=2)
    assert len(found) == len(paths) == 5 and not any('broken' in path for path in paths)
    assert len(said) == 1 and said[0].startswith(f'skipped {folder / "broken.jpg"}: ')
    with pytest.raises(ValueError, match='none of the 1 images can be read'):
        extract_features(network(), folder / 'broken.jpg')


def test_batch_by_batch(folder):
    model = network()
    (folder / 'b.png').write_bytes(b'broken')
    batches = iterate_features(model, folder, batch_size=1, num_workers=0)
    first = next(batches)
    assert first[0].shape == (1, 24) and first[1] == [str(folder / 'a.png')]
    rows = [first[0], *(part for part, _ in batches)]
    np.testing.assert_array_equal(
        np.concatenate(rows), extract_features(model, folder, batch_size=1)[0]
    )


@pytest.mark.parametrize(
    'images, options, sentence',
    [
        ('none', {}, 'no image or folder of images'),
        ([], {}, 'the list of images is empty'),
        (np.zeros((2, 9, 9, 3)), {}, r'must be \(N, H, W, 3\) uint8'),
        (np.zeros((2, 3, 9, 9), np.uint8), {}, r'must be \(N, H, W, 3\) uint8'),
        (np.zeros((0, 9, 9, 3), np.uint8), {}, 'an image at least'),
        (torch.zeros(3, 9, 9), {}, r'must be \(N, channels, H, W\)'),
        (torch.zeros(2, 9, 9, 3, dtype=torch.uint8), {}, r'must be \(N, 3, H, W\)'),
        (torch.zeros(2, 3, 9, 9, dtype=torch.long), {}, 'uint8 from 0 to 255, or floats'),
        (torch.zeros(2, 1, 9, 9), {}, 'have 1 channels and the network takes 3'),
        (torch.zeros(2, 3, 28, 28), dict(out='patches'), 'out must be one of'),
        (torch.zeros(2, 3, 28, 28), dict(layers=2), 'layers must name blocks of the 2'),
        (torch.zeros(2, 3, 28, 28), dict(batch_size=0), 'batch_size must be at least 1'),
    ],
)
def test_mistakes(images, options, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        extract_features(network(), images, **options)


def test_networks_that_have_no_such_features():
    with pytest.raises(ValueError, match='not of Linear: get one with adpe_mm.get_model'):
        extract_features(torch.nn.Linear(1, 1), torch.zeros(1, 3, 28, 28))
    model = network(with_cls_token=False, out_type='featmap')
    with pytest.raises(ValueError, match='no cls token'):
        extract_features(model, torch.zeros(1, 3, 28, 28), 'cls')


def test_a_fixed_range_of_deep_files(tmp_path):
    """As an array that is mapped already."""
    model = network()
    values = np.random.default_rng(0).integers(0, 4096, (1, 40, 52)).astype(np.uint16)
    Image.fromarray(values[0]).save(tmp_path / 'deep.png')
    pixels = np.interp(values, (0, 4095), (0, 255)).round().astype(np.uint8)
    expected, _ = extract_features(model, np.repeat(pixels[..., None], 3, 3))
    found, _ = extract_features(model, tmp_path / 'deep.png', value_range=(0, 4095))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    dark, _ = extract_features(model, tmp_path / 'deep.png', value_range=(0, 65535))
    assert np.abs(dark - expected).max() > 0.1
