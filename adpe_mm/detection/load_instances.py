"""Objects of an image whose masks are polygons, run lengths, or missing."""

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures.mask import BitmapMasks

from adpe_mm.datasets.coco_reading import usable_mask
from adpe_mm.errors import UserError
from adpe_mm.registry import TRANSFORMS

UNKNOWN = 255  # as in segmentation: a pixel of which no label is known


@TRANSFORMS.register_module()
class LoadInstances(LoadAnnotations):
    """mmdet's `LoadAnnotations`, for objects with masks of any kind or none.

    - An object without a mask gets a bitmap that is `UNKNOWN` in its box, so that the box moves
      with the image, and `FCNMaskHead` knows. mmdet's transform ends in a ``KeyError``, or, where
      the polygons are broken, makes background of the object.
    - With ``poly2mask=False`` masks are polygons only in images in which each object has polygons,
      and bitmaps in others; crowds do not count. mmdet's makes background of objects whose masks
      are run lengths.

    Args:
        **kwargs: See mmdet's `LoadAnnotations`.

    Raises:
        UserError: If a mask is of another size than the image.
    """

    def _load_masks(self, results: dict) -> None:
        instances = results.get('instances', [])
        for instance in instances:
            instance['mask'] = usable_mask(instance.get('mask'))
        counted = [instance for instance in instances if not instance['ignore_flag']]
        if not self.poly2mask and all(isinstance(i['mask'], list) for i in counted):
            super()._load_masks(results)  # a crowd is no polygon, and stays ignored
            return
        height, width = results['ori_shape']
        masks = np.zeros((len(instances), height, width), np.uint8)
        for mask, instance in zip(masks, instances, strict=True):
            if instance['mask'] is None:
                left, top, right, bottom = instance['bbox']
                mask[_pixels(top, bottom, height), _pixels(left, right, width)] = UNKNOWN
                continue
            drawn = self._poly2mask(instance['mask'], height, width)
            if drawn.shape != mask.shape:
                raise UserError(
                    f'a mask of {results.get("img_path")} is {drawn.shape[1]} x {drawn.shape[0]} '
                    f'px, the image {width} x {height} px: correct "size" in the annotation file'
                )
            mask[:] = drawn
        results['gt_masks'] = BitmapMasks(masks, height, width)


def _pixels(low: float, high: float, length: int) -> slice:
    """The pixels that a range touches, at least one, within an image."""
    first = min(max(int(np.floor(low)), 0), length - 1)
    return slice(first, max(int(np.ceil(high)), first + 1))
