"""The stand-in for mmcv's compiled operators, against values recorded from these."""

import importlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import adpe_mm  # noqa: F401  puts the stand-in in place
from adpe_mm.ops import are_compiled, mmcv_ext

ROOT = Path(__file__).resolve().parents[2]


def recorded(operator):
    """The recorded cases of an operator, by their names."""
    cases = defaultdict(dict)
    with np.load(ROOT / 'tests' / 'data' / 'mmcv_ops' / 'compiled.npz') as file:
        for key in file.files:
            kind, case, name = key.split('/')
            if kind == operator:
                value = file[key]
                cases[case][name] = torch.from_numpy(value) if value.ndim else value.item()
    assert cases
    return dict(cases)


NMS, BATCHED, ROI_ALIGN = recorded('nms'), recorded('batched'), recorded('roi_align')
for _case in ROI_ALIGN.values():
    if isinstance(_case['output_size'], torch.Tensor):
        _case['output_size'] = tuple(_case['output_size'].tolist())


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """The stand-in answers, even where compiled operators are installed."""
    for name in ('nms', 'roi_align'):
        monkeypatch.setattr(importlib.import_module(f'mmcv.ops.{name}'), 'ext_module', mmcv_ext)


def greedy(boxes, order, iou_threshold):
    """Non-maximum suppression by its definition: indices of the boxes that stay."""
    boxes, threshold, kept = boxes.numpy(), np.float32(iou_threshold), []

    def area(corners):
        return max(corners[2] - corners[0], np.float32(0)) * max(
            corners[3] - corners[1], np.float32(0)
        )

    for i in order:
        for j in (j for j in kept if area(boxes[i]) + area(boxes[j]) > 0):
            inner = [*np.maximum(boxes[i], boxes[j])[:2], *np.minimum(boxes[i], boxes[j])[2:]]
            overlap = area(inner)
            if overlap / (area(boxes[i]) + area(boxes[j]) - overlap) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize('case', ['equal_scores', 'all_scores_equal'])
def test_nms_of_equal_scores(case):
    """Which of equal scores comes first is up to torch's sort, which differs between processors.

    mmcv takes boxes in the order of that sort: the recorded case says so, with its own order.
    """
    from mmcv.ops import nms

    values = NMS[case]
    boxes, scores, threshold = (values[name] for name in ('boxes', 'scores', 'iou_threshold'))
    assert greedy(boxes, values['order'].tolist(), threshold) == values['inds'].tolist()
    order = scores.sort(dim=0, descending=True).indices.tolist()
    assert nms(boxes, scores, threshold)[1].tolist() == greedy(boxes, order, threshold)


@pytest.mark.parametrize('case', [case for case in NMS if 'order' not in NMS[case]])
def test_nms(case):
    from mmcv.ops import nms

    values = dict(NMS[case])
    dets, inds = values.pop('dets'), values.pop('inds')
    found_dets, found_inds = nms(**values)
    assert found_inds.tolist() == inds.tolist()
    torch.testing.assert_close(found_dets, dets, rtol=0, atol=0)


@pytest.mark.parametrize('case', BATCHED)
def test_batched_nms(case):
    from mmcv.ops import batched_nms

    values = dict(BATCHED[case])
    dets, keep = values.pop('dets'), values.pop('keep')
    options = {name: values.pop(name) for name in ('iou_threshold', 'split_thr', 'max_num')}
    found_dets, found_keep = batched_nms(**values, nms_cfg=dict(type='nms', **options))
    assert found_keep.tolist() == keep.tolist()
    torch.testing.assert_close(found_dets, dets, rtol=0, atol=0)


def align(case, dtype, rois_dtype=None, **options):
    """Output and gradient of a recorded case, computed in `dtype`."""
    from mmcv.ops import RoIAlign

    layer = RoIAlign(
        case['output_size'],
        case['spatial_scale'],
        case['sampling_ratio'],
        aligned=case['aligned'],
        **options,
    )
    features = case['input'].to(dtype, copy=True).requires_grad_()
    output = layer(features, case['rois'].to(rois_dtype or dtype))
    output.backward(case['grad_output'].to(dtype))
    assert output.dtype == features.grad.dtype == dtype
    return output.detach(), features.grad


@pytest.mark.parametrize('case', ROI_ALIGN)
def test_roi_align(case):
    output, gradient = align(ROI_ALIGN[case], torch.float32)
    torch.testing.assert_close(output, ROI_ALIGN[case]['output'], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, ROI_ALIGN[case]['grad_input'], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('case', ['ratio0', 'ratio2', 'outside', 'none'])
def test_roi_align_of_half_precision(case, dtype):
    """What is computed from rounded features is rounded once: boxes keep all their digits."""
    case = ROI_ALIGN[case]
    output, gradient = align(case, dtype, rois_dtype=torch.float32)
    step = torch.finfo(dtype).eps
    # A weighted mean is off by no more than its largest feature.
    torch.testing.assert_close(output.float(), case['output'], rtol=0, atol=4 * step)
    largest = case['grad_input'].abs().max().item()
    torch.testing.assert_close(
        gradient.float(), case['grad_input'], rtol=2 * step, atol=2 * step * largest
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_nms_of_half_precision(dtype):
    """Half precision gives what the same rounded boxes give in float32."""
    from mmcv.ops import nms

    case = NMS['random']
    boxes, scores = case['boxes'].to(dtype), case['scores'].to(dtype)
    wide = nms(boxes.float(), scores.float(), case['iou_threshold'])[1]
    assert nms(boxes, scores, case['iou_threshold'])[1].tolist() == wide.tolist()


@pytest.mark.parametrize('use_torchvision', [False, True])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast(dtype, use_torchvision):
    """Inside of autocast, features of half precision come back in it.

    The detectors have ``use_torchvision=True``, which takes bfloat16 where mmcv is compiled too.
    """
    case = ROI_ALIGN['ratio0']
    with torch.autocast('cpu', dtype=dtype):
        output, gradient = align(case, dtype, torch.float32, use_torchvision=use_torchvision)
    torch.testing.assert_close(
        output.float(), case['output'], rtol=0, atol=4 * torch.finfo(dtype).eps
    )
    assert torch.isfinite(gradient.float()).all()


def test_missing_operators_say_so_when_they_are_called():
    assert callable(mmcv_ext.deform_conv_forward)
    with pytest.raises(RuntimeError, match='operator deform_conv_forward is not there.*compile'):
        mmcv_ext.deform_conv_forward(1, 2)
    from mmcv.ops import RoIAlign

    with pytest.raises(RuntimeError, match="pool_mode='max'.* is not there"):
        case = ROI_ALIGN['ratio0']
        RoIAlign(7, pool_mode='max')(case['input'], case['rois'])


def run(code, folder=None):
    """Runs code in a Python of its own, with `folder` first on its path."""
    code = f'import sys; sys.path[:0] = {[str(folder)] if folder else []!r}\n{code}'
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True
    )


def test_compiled_operators_are_left_alone(tmp_path):
    """Whatever mmcv has itself is found first."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    (tmp_path / 'mmcv' / '_ext.py').write_text('compiled = True\n')
    done = run('import adpe_mm, mmcv._ext; print(mmcv._ext.compiled)', tmp_path)
    assert done.stdout == 'True\n', done.stderr


@pytest.mark.slow
@pytest.mark.skipif(are_compiled(), reason='mmcv has compiled operators here')
def test_mmdet_may_be_imported_first():
    """mmdet 3.5 puts functions that raise in the place of operators that it cannot import."""
    done = run(
        'import torch\n'
        'try:\n'
        '    from mmdet.structures.mask import structures\n'
        'except ImportError:\n'  # of mmdet 3.4, which does not catch it
        '    pass\n'
        'import adpe_mm\n'
        'from mmdet.structures.mask import BitmapMasks, structures\n'
        'import numpy as np\n'
        'import mmcv.ops\n'
        'assert structures.roi_align is mmcv.ops.roi_align\n'
        "masks = BitmapMasks(np.ones((1, 8, 8), 'uint8'), 8, 8)\n"
        'boxes = np.array([[0, 0, 4, 4.0]], np.float32)\n'
        'print(masks.crop_and_resize(boxes, (2, 2), np.array([0])).masks.all())\n'
    )
    assert done.stdout.strip().endswith('True'), done.stderr
