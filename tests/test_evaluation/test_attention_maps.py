"""A patch that all look at is drawn where it lies in the file, whatever the pipeline does.

A network looks at the brightest patch by construction, and one square of the image is bright: no
formula of the geometry is needed to know where the light has to be.
"""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.models import EncoderDecoder

from adpe_mm.errors import UserError
from adpe_mm.evaluation.attention_maps import (
    attention_block,
    attention_maps,
    looked_at,
    sliding_windows,
    trace,
)
from adpe_mm.evaluation.drawing import attention_sheet
from adpe_mm.models import AdPEViT
from adpe_mm.registry import MODELS, TRANSFORMS

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
PREPROCESSORS = dict(
    mmpretrain=dict(type='ClsDataPreprocessor', mean=[120] * 3, std=[60] * 3, to_rgb=True),
    mmseg=dict(type='SegDataPreProcessor', mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True),
    mmdet=dict(type='DetDataPreprocessor', mean=[120] * 3, std=[60] * 3, pad_size_divisor=128),
)
PACK = dict(mmpretrain='PackInputs', mmseg='PackSegInputs', mmdet='PackDetInputs')
KEEP_RATIO = dict(type='Resize', keep_ratio=True)
CASES = {
    'classification: short edge and central crop': (
        'mmpretrain',
        [dict(type='ResizeEdge', scale=128, edge='short'), dict(type='CenterCrop', crop_size=112)],
        {},
    ),
    'classification by Pillow': (
        'mmpretrain',
        [
            dict(type='ResizeEdge', scale=128, backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=112),
        ],
        {},
    ),
    'a crop of what is not resized': ('mmpretrain', [dict(type='CenterCrop', crop_size=160)], {}),
    'padded on all sides': (
        'mmpretrain',
        [dict(type='CenterCrop', crop_size=400, auto_pad=True, clip_object_border=False)],
        {},
    ),
    'squeezed into a square': ('mmpretrain', [dict(type='Resize', scale=(112, 112))], {}),
    'mirrored': (
        'mmseg',
        [KEEP_RATIO | dict(scale=(256, 128)), dict(type='RandomFlip', prob=1.0)],
        {},
    ),
    'segmentation: ratio kept': ('mmseg', [KEEP_RATIO | dict(scale=(2048, 130))], {}),
    'segmentation: padded to a divisor': (
        'mmseg',
        [KEEP_RATIO | dict(scale=(2048, 130))],
        dict(test_cfg=dict(size_divisor=64)),
    ),
    'segmentation: sliding windows': (
        'mmseg',
        [KEEP_RATIO | dict(scale=(2048, 130))],
        dict(slide=dict(mode='slide', crop_size=(64, 64), stride=(43, 43))),
    ),
    'detection: resized and padded': ('mmdet', [KEEP_RATIO | dict(scale=(200, 200))], {}),
    'detection: windows in all layers': (
        'mmdet',
        [KEEP_RATIO | dict(scale=(200, 200))],
        dict(backbone=dict(window_size=3, global_blocks=())),
    ),
    'detection: not resized, and padded by the backbone': (
        'mmdet',
        [],
        dict(preprocessor=dict(pad_size_divisor=1)),
    ),
}


class Looking(torch.nn.Module):
    """What attention maps need of a network, whose queries all ask for light."""

    def __init__(self, backbone=None, preprocessor=None, test_cfg=None, slide=None):
        super().__init__()
        options = dict(with_cls_token=False, out_type='featmap') | (backbone or {})
        self.backbone = AdPEViT(ARCH, img_size=64, patch_size=8, **options)
        self.test_cfg = slide
        preprocessor = preprocessor or {}
        if test_cfg:
            preprocessor = preprocessor | dict(test_cfg=test_cfg)
        self.data_preprocessor = MODELS.build(preprocessor)
        with torch.no_grad():
            for parameter in self.backbone.parameters():
                parameter.zero_()
            # The first number of a token is its light, the second a constant to compare it with.
            self.backbone.patch_embed.projection.weight[0] = 1 / (3 * 64)
            self.backbone.pos_embed[:, :, 1] = 10
            block = self.backbone.layers[0]
            block.ln1.weight.fill_(1)
            block.attn.qkv.bias[[0, 8]] = 100  # the first number of each head's query
            block.attn.qkv.weight[[16, 24], 0] = 10  # that of its key is the light


@pytest.mark.parametrize('place', [(0.4, 0.3), (0.62, 0.55), (0.5, 0.7)])
@pytest.mark.parametrize('size', [(150, 220), (260, 140)])
@pytest.mark.parametrize('case', CASES)
def test_light_is_where_it_is(case, size, place):
    scope, steps, options = CASES[case]
    init_default_scope(scope)
    preprocessor = PREPROCESSORS[scope] | options.get('preprocessor', {})
    options = dict(backbone=dict(with_cls_token=scope == 'mmpretrain')) | options
    model = Looking(**(options | dict(preprocessor=preprocessor))).eval()
    meta = dict(meta_keys=('ori_shape', 'img_shape'))
    pipeline = Compose(
        [TRANSFORMS.build(step) for step in [*steps, dict(type=PACK[scope], **meta)]]
    )

    def run(pixels):
        pixels = np.repeat(pixels[..., None], 3, axis=2)
        shape = pixels.shape[:2]
        sample = pipeline(dict(img=pixels, img_shape=shape, ori_shape=shape))
        return model.data_preprocessor(pseudo_collate([sample]), False)['inputs'][0]

    height, width = size
    y, x = round(place[0] * height), round(place[1] * width)
    scene = np.full(size, 20, np.uint8)
    scene[y - 8 : y + 8, x - 8 : x + 8] = 250
    maps = attention_maps(model, run(scene)[None], trace(run, size), size, size)
    assert maps.shape == (2, *size)
    for heat in maps:
        heat = np.nan_to_num(heat)
        lit = heat > 0.5 * heat.max()
        rows, columns = np.nonzero(lit)
        down, across = (abs(axis.scale) for axis in trace(run, size))
        # About half a patch of 8 px; in windows, where each looks at its own brightest, one.
        tolerance = 8 if 'all layers' in case else 5
        assert abs(columns.mean() + 0.5 - x) < tolerance * across
        assert abs(rows.mean() + 0.5 - y) < tolerance * down


def test_what_a_crop_leaves_out_stays_grey():
    """Of 220 x 150 px, a central crop of 112 of 128 px sees 131.25 px in the middle."""
    init_default_scope('mmpretrain')
    model = Looking(preprocessor=PREPROCESSORS['mmpretrain']).eval()
    steps = [*CASES['classification: short edge and central crop'][1], dict(type='PackInputs')]
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])

    def run(pixels):
        sample = pipeline(dict(img=np.repeat(pixels[..., None], 3, axis=2)))
        return model.data_preprocessor(pseudo_collate([sample]), False)['inputs'][0]

    image = np.random.default_rng(0).integers(0, 255, (150, 220, 3), dtype=np.uint8)
    maps = attention_maps(
        model, run(image[..., 0])[None], trace(run, (150, 220)), (150, 220), (150, 220)
    )
    rows, columns = np.nonzero(np.isfinite(maps[0]))
    assert [rows.min(), rows.max()] == pytest.approx([9.4, 140.6], abs=1.5)
    assert [columns.min(), columns.max()] == pytest.approx([44.4, 175.6], abs=1.5)
    sheet = np.asarray(attention_sheet(image, maps)).reshape(150, 3, 220, 3)
    assert np.array_equal(sheet[:, 0], image)
    unseen = sheet[:, 1][:, :40]
    assert (unseen == unseen[..., :1]).all()


@pytest.mark.parametrize('size', [(64, 64), (50, 90), (130, 131), (200, 64)])
def test_windows_are_those_of_mmseg(size):
    """mmseg's own loop, of which each window's pixels say where it is."""
    test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(43, 40))
    found = []

    class Segmentor(EncoderDecoder):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.test_cfg, self.out_channels = ConfigDict(test_cfg), 1

        def encode_decode(self, inputs, metas):
            (top, left), (bottom, right) = inputs[0, :, 0, 0], inputs[0, :, -1, -1]
            found.append(tuple(int(v) for v in (top, left, bottom + 1, right + 1)))
            return inputs[:, :1]

    model = Segmentor()
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing='ij')
    model.slide_inference(torch.stack((rows, columns))[None].float(), [{}])
    assert sliding_windows(model, size) == found


def test_mean_over_the_windows_is_that_of_the_attention_itself():
    backbone = AdPEViT(
        ARCH,
        40,
        patch_size=8,
        with_cls_token=False,
        window_size=2,
        global_blocks=(),
        out_type='raw',
    )
    backbone.reset_parameters()
    block = backbone.layers[0]
    x = torch.randn(1, 25, 16)
    found = looked_at(block, x, (5, 5))
    assert found.shape == (2, 5, 5)
    # The third window of the first row: column 4 of rows 0 and 1, beside padding.
    y = torch.zeros(2, 2, 16)
    y[:, 0] = block.ln1(x).unflatten(1, (5, 5))[0, :2, 4]
    weights = block.attn.weights(y.reshape(1, 4, 16), (2, 2))[0].mean(dim=1)
    torch.testing.assert_close(found[:, :2, 4], weights[:, [0, 2]])


def test_another_backbone_is_refused():
    with pytest.raises(UserError, match=r'needs adpe_mm\.AdPEViT'):
        attention_block(torch.nn.Identity())


def test_a_pipeline_that_turns_is_refused():
    with pytest.raises(UserError, match='cannot follow the test pipeline'):
        trace(lambda pixels: torch.from_numpy(pixels.T.copy())[None].float(), (40, 60))
