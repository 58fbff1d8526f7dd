"""Each probe against a reference in numpy that takes the definition literally."""

import numpy as np
import pytest
import torch
from PIL import Image

from adpe_mm.errors import MissingFile, UserError
from adpe_mm.evaluation.probes import Prober
from adpe_mm.evaluation.probes.attentive import AttentiveHead, attentive_predict
from adpe_mm.evaluation.probes.description import (
    attention_distance,
    describe_blocks,
    effective_rank,
)
from adpe_mm.evaluation.probes.knn import knn_predict
from adpe_mm.evaluation.probes.labelled import find_labelled
from adpe_mm.evaluation.probes.linear import STRENGTHS, fit_ridge
from adpe_mm.evaluation.probes.segmentation import find_masks, mean_iou, segmentation_probe
from adpe_mm.evaluation.probes.shares import Share, standardisation
from adpe_mm.models import AdPEViT, MultiCropPreprocessor

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def clusters(number, width=12, classes=4, spread=2.0, seed=0):
    """Features around one centre per class, with scales that differ by channel."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, number)
    features = centres[labels] + spread * rng.normal(size=(number, width))
    return (features * np.geomspace(0.1, 10, width) + 3).astype(np.float32), labels


@pytest.mark.parametrize('k, number', [(1, 50), (20, 200), (20, 7)])
def test_knn_is_a_weighted_vote_by_cosine_similarity(k, number):
    train, labels = clusters(number)
    val, _ = clusters(60, seed=1)
    expected = []
    for query in val.astype(float):
        cosines = [
            x @ query / np.linalg.norm(x) / np.linalg.norm(query) for x in train.astype(float)
        ]
        nearest = sorted(range(number), key=lambda i: -cosines[i])[:k]
        votes = [
            sum(np.exp(cosines[i] / 0.07) for i in nearest if labels[i] == c) for c in range(4)
        ]
        expected.append(int(np.argmax(votes)))
    train, labels, val = map(torch.from_numpy, (train, labels, val))
    assert knn_predict(train, labels, val, 4, k).tolist() == expected


def test_ridge_is_the_closed_form_and_chosen_by_leaving_each_image_out():
    x, labels = clusters(40)
    X = (x - x.mean(axis=0)) / x.std(axis=0)
    Y = 2.0 * np.eye(4)[labels] - 1

    def solve(rows, strength):
        """Weights and free bias that minimise squares + strength * 40 * |weights|^2."""
        A, B = np.column_stack((X[rows], np.ones(sum(rows)))), Y[rows]
        penalty = np.diag([strength * 40] * X.shape[1] + [0])
        return np.linalg.solve(A.T @ A + penalty, A.T @ B)

    errors = []
    for strength in STRENGTHS:
        error = 0
        for i in range(40):
            rows = np.arange(40) != i
            error += ((np.append(X[i], 1) @ solve(rows, strength) - Y[i]) ** 2).sum()
        errors.append(error)
    best = STRENGTHS[int(np.argmin(errors))]
    assert 0 < STRENGTHS.index(best) < len(STRENGTHS) - 1  # or the choice would be none
    ridge = fit_ridge(torch.from_numpy(x), torch.from_numpy(labels), 4)
    assert ridge.strength == best
    solution = solve(np.full(40, True), best)
    np.testing.assert_allclose(ridge.weight, solution[:-1], atol=1e-4)
    np.testing.assert_allclose(ridge.bias, solution[-1], atol=1e-4)
    scores = np.column_stack((X, np.ones(40))) @ solution
    np.testing.assert_allclose(ridge(torch.from_numpy(x)), scores, atol=1e-4)


def test_standardisation_is_a_batch_norm_without_affine():
    x = torch.from_numpy(clusters(50)[0]).view(10, 5, 12)
    norm = torch.nn.BatchNorm1d(12, affine=False, eps=1e-6).train()
    mean, deviation = standardisation(x)
    expected = norm(x.flatten(0, 1)).view_as(x)
    torch.testing.assert_close(((x - mean) / deviation).float(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('number, width', [(60, 12), (8, 12)])
def test_effective_rank_is_rankme(number, width):
    x, _ = clusters(number, width)
    singular = np.linalg.svd(x.astype(float), compute_uv=False)
    singular = np.pad(singular, (0, width - len(singular)))  # as many as there are channels
    p = singular / singular.sum() + 1e-7
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(
        np.exp(-(p * np.log(p)).sum()), rel=1e-5
    )


def test_effective_rank_of_known_spectra():
    assert effective_rank(torch.eye(6)) == pytest.approx(6, rel=1e-4)
    assert effective_rank(torch.ones(10, 6)) == pytest.approx(1, abs=1e-3)


GRID, PATCH = (3, 5), 8


def pairwise():
    """Distances of all pairs of patches in pixels, by the definition."""
    places = [(r, c) for r in range(3) for c in range(5)]
    return np.array([[PATCH * np.hypot(a - c, b - d) for c, d in places] for a, b in places])


def test_attention_distance_of_known_attention():
    identity = torch.eye(16).expand(2, 3, -1, -1)
    assert attention_distance(identity, GRID, PATCH).tolist() == [0, 0, 0]
    uniform = torch.full((2, 1, 16, 16), 1 / 16)  # cls takes part of it, which does not count
    expected = pairwise().mean()
    assert attention_distance(uniform, GRID, PATCH).item() == pytest.approx(expected, rel=1e-5)
    to_the_first = torch.zeros(1, 1, 15, 15)
    to_the_first[..., 0] = 1
    found = attention_distance(to_the_first, GRID, PATCH).item()
    assert found == pytest.approx(pairwise()[:, 0].mean(), rel=1e-5)


def network(**options) -> AdPEViT:
    settings = dict(arch=ARCH, img_size=(12, 20), patch_size=4, position='rpe', out_type='featmap')
    model = AdPEViT(**{**settings, **options})
    with torch.no_grad():
        for param in model.parameters():
            param.normal_(std=0.3)
    model.data_preprocessor = MultiCropPreprocessor()
    return model.eval()


@pytest.mark.parametrize('position, cls', [('rpe', True), ('ape', True), ('ape', False)])
def test_blocks_are_described_by_what_they_do(position, cls):
    """Values through the attention itself: tokens that are one-hot values come out as weights."""
    torch.manual_seed(0)
    model = network(position=position, with_cls_token=cls, out_type='raw')
    inputs = torch.randn(6, 3, 12, 20)
    found = describe_blocks(model, inputs)
    assert not model.layers[0]._forward_hooks and not model.layers[0].attn._forward_pre_hooks
    tokens, kept = [], {}
    model.final_norm = False
    for i in range(2):
        model.out_indices = [i]
        tokens.append(model(inputs)[0][:, int(cls) :].detach())
    model.layers[1].attn.register_forward_hook(lambda m, a, o: kept.update(x=a[0].detach()))
    model(inputs)
    attn, x = model.layers[1].attn, kept['x']
    L, D = x.shape[1], attn.head_dim
    # The weights, read off the output: a head of the values sees D tokens at a time.
    weights = torch.zeros(6, 3, L, L)
    qkv = attn.qkv(x).unflatten(-1, (3, 3, D)).permute(2, 0, 3, 1, 4)
    for start in range(0, L, D):
        seen = torch.eye(L)[:, start : start + D]
        values = torch.zeros(L, D)
        values[:, : seen.shape[1]] = seen
        attn.proj, proj = torch.nn.Identity(), attn.proj
        original = attn._project

        def project(x, grid, values=values, original=original):
            q, k, v, rpe_query = original(x, grid)
            return q, k, values.expand_as(v), rpe_query

        attn._project = project
        out = attn(x, GRID).unflatten(-1, (3, D)).permute(0, 2, 1, 3)
        del attn._project
        attn.proj = proj
        weights[..., start : start + D] = out[..., : seen.shape[1]].detach()
    assert qkv.shape[3] == L
    w = weights[:, :, int(cls) :, int(cls) :].numpy()
    w = w / w.sum(axis=-1, keepdims=True)
    expected = (w * pairwise() / 2).sum(axis=-1).mean()  # patches of 4 px
    assert found.attention_distance[1] == pytest.approx(expected, rel=1e-4)
    norms = [t.norm(dim=-1) for t in tokens]
    assert found.token_norm == pytest.approx([n.mean().item() for n in norms], rel=1e-4)
    assert found.largest_norm == pytest.approx((norms[1].max() / norms[1].mean()).item(), rel=1e-4)


def test_the_attentive_head_is_attention_by_one_query():
    """Against the usual form with matrices of keys and values, of which the head's are products."""
    torch.manual_seed(0)
    E, H, D = 12, 3, 4
    head = AttentiveHead(E, H, 5, torch.Generator().manual_seed(0))
    query, key = torch.randn(E), torch.randn(E, E)
    with torch.no_grad():
        for param in head.parameters():
            param.normal_()
        for h in range(H):
            part = slice(h * D, (h + 1) * D)
            head.query[h] = key[part].T @ query[part] * D**-0.5
    tokens = torch.randn(2, 7, E)
    keys = (tokens @ key.T).unflatten(-1, (H, D)).transpose(1, 2)
    values = (tokens @ head.value.flatten(0, 1).T).unflatten(-1, (H, D)).transpose(1, 2)
    queries = query.view(1, H, 1, D).expand(2, -1, -1, -1)
    pooled = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    expected = pooled.flatten(1) @ head.weight.T + head.bias
    torch.testing.assert_close(head(tokens), expected, atol=1e-5, rtol=1e-4)


def share(images, targets) -> Share:
    return Share(images, targets, torch.arange(len(images)), len(images))


def test_the_attentive_probe_finds_what_one_patch_says_and_leaves_generators_alone():
    """Patches with a mark say the class and all others only noise, which hides it in the mean."""

    def draw(number, seed):
        generator = torch.Generator().manual_seed(seed)
        tokens = 3 * torch.randn(number, 30, 12, generator=generator)
        tokens[..., 0] = 0
        labels = torch.randint(4, (number,), generator=generator)
        where = torch.randint(30, (number,), generator=generator)
        tokens[torch.arange(number), where, 0] = 20
        tokens[torch.arange(number), where, 1:5] = 8.0 * torch.eye(4)[labels]
        return share(tokens, labels)

    train, val = draw(600, 0), draw(300, 1)
    state = torch.get_rng_state()
    predicted = attentive_predict(train, val, 3, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert (predicted == val.targets).float().mean() > 0.9
    means = [s.images.mean(dim=1) for s in (train, val)]
    linear = fit_ridge(means[0], train.targets, 4)(means[1]).argmax(1)
    assert (linear == val.targets).float().mean() < 0.75


def write(path, colour=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 40, 3), colour, np.uint8)).save(path)


def test_labelled_images_in_each_layout(tmp_path):
    for name in 'ba':
        for i in range(10):
            write(tmp_path / 'whole' / name / 'below' / f'{i}.png')
    found = find_labelled(tmp_path / 'whole', 100, 100)
    assert found.classes == ['a', 'b'] and len(found.train) == 16 and len(found.val) == 4
    assert not set(found.train.paths) & set(found.val.paths)
    for split in (found.train, found.val):
        for path, label in zip(split.paths, split.labels, strict=True):
            assert f'/whole/{"ab"[label]}/below/' in path
    few = find_labelled(tmp_path / 'whole', 6, 2)
    assert sorted(few.train.labels) == [0, 0, 0, 1, 1, 1] and sorted(few.val.labels) == [0, 1]
    for part in ('train', 'val'):
        (tmp_path / 'parts').mkdir(exist_ok=True)
        (tmp_path / 'parts' / part).symlink_to(tmp_path / 'whole')
    assert len(find_labelled(tmp_path / 'parts', 100, 100).val) == 20
    lines = [f'{name}/below/{i}.png {name.upper()} ' for name in 'ab' for i in range(10)]
    (tmp_path / 'whole' / 'list.txt').write_text('\n'.join([*lines, '']))
    listed = find_labelled(tmp_path / 'whole' / 'list.txt', 100, 100)
    assert listed.classes == ['A', 'B'] and listed.train.labels == found.train.labels
    write(tmp_path / 'a b.png')
    write(tmp_path / 'c.png')
    (tmp_path / 'tabs.txt').write_text('a b.png\tone\nc.png\ttwo three\n')
    with pytest.raises(UserError, match="class 'one'.*has one image"):
        find_labelled(tmp_path / 'tabs.txt', 100, 100)


def test_images_of_another_number_of_bands(tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate('ab'):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = rng.integers(0, 100, (24, 40, 2), dtype=np.uint8)
            pixels[..., 1] += 100 * label
            np.save(tmp_path / name / f'{i}.npy', pixels)
    model = network(in_channels=2)
    model.data_preprocessor = MultiCropPreprocessor(mean=(100, 100), std=(50, 50))
    found = Prober(tmp_path, channels=2, probes=['linear'])(model)
    assert found['num_train'] == 16 and found['linear'] == 100


def test_mistakes_in_labelled_images(tmp_path):
    write(tmp_path / 'one' / 'a' / '0.png')
    write(tmp_path / 'flat' / '0.png')
    write(tmp_path / 'parts' / 'train' / 'a' / '0.png')
    write(tmp_path / 'parts' / 'train' / 'b' / '0.png')
    write(tmp_path / 'parts' / 'val' / 'c' / '0.png')
    (tmp_path / 'bad.txt').write_text('lonely.png\n')
    (tmp_path / 'two.txt').write_text('flat/0.png a\nflat/0.png b\n')
    (tmp_path / 'gone.txt').write_text('flat/0.png a\nflat/1.png b\n')
    for name, kind, sentence in [
        ('none', MissingFile, 'no folder or list'),
        ('one', UserError, 'two classes at least'),
        ('flat', UserError, 'no folder for each class'),
        ('parts', UserError, "class 'c' to judge by and none to fit on"),
        ('bad.txt', UserError, 'line 1 of'),
        ('two.txt', UserError, "two labels, 'a' and 'b'"),
        ('gone.txt', MissingFile, 'no image or folder'),
    ]:
        with pytest.raises(kind, match=sentence):
            find_labelled(tmp_path / name, 10, 10)


def test_mean_iou_by_counting():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 3, (2, 500))
    counts = torch.zeros(4, 4, dtype=torch.float64)  # the last class is nowhere
    for t, p in zip(true, predicted, strict=True):
        counts[t, p] += 1
    iou = [
        ((true == c) & (predicted == c)).sum() / ((true == c) | (predicted == c)).sum()
        for c in range(3)
    ]
    assert mean_iou(counts) == pytest.approx(100 * np.mean(iou))


def test_the_segmentation_probe_reads_off_patches_what_they_show(tmp_path):
    """Each patch is dark or bright, and this is its class; a third of the pixels has no label."""
    rng = np.random.default_rng(0)
    for part, number in (('training', 40), ('validation', 10)):
        for kind in ('images', 'annotations'):
            (tmp_path / kind / part).mkdir(parents=True)
        for i in range(number):
            classes = rng.integers(0, 2, (8, 8)).repeat(4, 0).repeat(4, 1)
            pixels = np.where(classes, 220, 30)[..., None] + rng.integers(0, 20, (32, 32, 3))
            mask = classes + 1
            mask[rng.random((32, 32)) < 0.3] = 0
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / 'images' / part / f'{i}.png')
            Image.fromarray(mask.astype(np.uint8)).save(
                tmp_path / 'annotations' / part / f'{i}.png'
            )
    torch.manual_seed(0)
    model = network(img_size=28, position='ape')
    model.reset_parameters()
    # 28 px is cut from 32 without resizing: 7 x 7 patches, half a patch away from the squares.
    result = segmentation_probe(model, tmp_path, (28, 28))
    assert result['num_classes'] == 2 and result['num_train'] == 40 and result['num_val'] == 10
    assert 50 < result['miou'] <= 100  # chance is a third
    (tmp_path / 'annotations' / 'validation' / '3.png').unlink()
    with pytest.raises(MissingFile, match='1 images of .*no mask, such as .*3.png'):
        find_masks(tmp_path, 'validation', 10)
    with pytest.raises(MissingFile, match='images and annotations'):
        find_masks(tmp_path / 'images', 'training', 10)
