"""What stands in for mmcv's extension module: NMS and RoIAlign, on torchvision's operators.

Signatures are those of mmcv's extension, as `mmcv.ops` calls it. Values are those of mmcv's
compiled operators (tests/test_ops). Half precision is computed in float32: boxes need the digits,
and torchvision has no bfloat16.
"""

from collections.abc import Callable

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision


def get_compiler_version() -> str:
    """Says that nothing was compiled."""
    return 'none, operators of torchvision'


def get_compiling_cuda_version() -> str:
    """Says in mmcv's words that nothing was compiled for CUDA."""
    return 'not available'


def nms(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int
) -> torch.Tensor:
    """Non-maximum suppression.

    Args:
        boxes: Corners x1, y1, x2, y2 in pixels, of shape (N, 4).
        scores: Of shape (N,).
        iou_threshold: A box goes if it overlaps one of a higher score by more than this.
        offset: What a width or a height is more than the difference of the corners: 0 or 1.

    Returns:
        Indices of the boxes that stay, by falling score; int64.
    """
    boxes = _at_least_float32(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares float32 with float32, torchvision float32 with float64.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    # Of equal scores mmcv takes first what this sort puts first; torchvision's own sort is stable.
    scores, order = scores.to(boxes.dtype).sort(dim=0, descending=True)
    return order[torch.ops.torchvision.nms(boxes[order], scores, threshold)]


def roi_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Averages features over the cells of a grid in each region.

    Args:
        input: Features, of shape (B, C, H, W).
        rois: Index of the image and corners x1, y1, x2, y2 in pixels, of shape (N, 5).
        output: Is filled; of shape (N, C, aligned_height, aligned_width).
        argmax_y: Not used: of max pooling.
        argmax_x: Not used: of max pooling.
        aligned_height: Cells of the grid.
        aligned_width: Cells of the grid.
        spatial_scale: Of the features, relative to pixels.
        sampling_ratio: Points per cell and axis; 0 for as many as there are features.
        pool_mode: 1, for averages.
        aligned: Whether pixels are points at half coordinates.

    Raises:
        RuntimeError: For max pooling, which torchvision does not have.
    """
    if pool_mode != 1:
        raise _missing("roi_align with pool_mode='max'")
    dtype = torch.promote_types(_at_least_float32(input).dtype, rois.dtype)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    grad_input: torch.Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `grad_input`, of shape (B, C, H, W), with the gradient of `roi_align_forward`."""
    dtype = torch.promote_types(_at_least_float32(grad_output).dtype, rois.dtype)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _missing(operator: str) -> RuntimeError:
    return RuntimeError(
        f"mmcv's operator {operator} is not there: mmcv was installed without compiled operators, "
        'and adpe_mm has NMS and RoIAlign in their place; docs/install.md says how to compile mmcv'
    )


def __getattr__(name: str) -> Callable:
    """Any other operator: `mmcv.ops` asks for all at its import, so it is an error to call it."""
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing(*args, **kwargs):
        raise _missing(name)

    return missing
