"""Masks of segmentation whose values are not the numbers of the classes."""

from io import BytesIO

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import Image

from adpe_mm.errors import UserError
from adpe_mm.registry import TRANSFORMS

IGNORED = 255


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Loads ``seg_map_path``, as mmseg's transform of that name, from masks of any values.

    Puts ``gt_seg_map`` (H, W) uint8, and its name to ``seg_fields``. ``mask_values`` at the top of
    a config puts it into all pipelines: see `share_classes`.

    Args:
        values: The value of each class in the masks, in the order of the classes, such as (0, 255);
            pixels of other values are ignored.
        backend_args: Of mmengine's file backend; None finds it by the path.

    Raises:
        UserError: If a mask has several channels.
    """

    def __init__(self, values: tuple[int, ...], backend_args: dict | None = None) -> None:
        self.values = np.array(values)
        self.table = self._find(np.arange(256))
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['seg_map_path']
        mask = read_mask(fileio.get(path, backend_args=self.backend_args))
        if mask.ndim != 2:
            raise UserError(
                f"the mask '{path}' has {mask.shape[2]} channels: save the numbers of the classes "
                'as a grey or palette PNG'
            )
        results['gt_seg_map'] = self.labels(mask)
        results['seg_fields'].append('gt_seg_map')
        return results

    def labels(self, mask: np.ndarray) -> np.ndarray:
        """The number of the class of each value: uint8, of the shape of `mask`."""
        if mask.dtype == np.uint8:
            return self.table[mask]
        return self._find(mask)

    def _find(self, values: np.ndarray) -> np.ndarray:
        order = np.argsort(self.values)
        ascending = self.values[order]
        place = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
        return np.where(ascending[place] == values, order[place], IGNORED).astype(np.uint8)


def read_mask(content: bytes) -> np.ndarray:
    """Pixels as they are stored: (H, W) numbers, of a palette its indices; or (H, W, C) colours."""
    with Image.open(BytesIO(content)) as image:
        pixels = np.asarray(image)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
