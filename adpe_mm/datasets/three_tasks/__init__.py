"""Images that are composed with their labels, written for three tasks at once.

What an image shows is a `Scenes`: mini scenes (`mini_scenes/`) or cut-outs pasted on photographs
(`cutouts.py`). Here they become files, in the layouts of ImageNet, ADE20K and COCO.

The background is a class of its own so that mIoU also counts objects seen where there is none:
with mmseg's `reduce_zero_label` 0 is ignored. The images of a split are hard links to one file
(copies where the file system has no links). Classes take turns as the main object: the first n
images of a split are balanced for any n.

The same options give the same bytes, with any number of processes.
"""

from .layouts import SPLITS, Scenes
from .photographs import find_photos, load_photo, random_crop
from .writing import write_data_set

__all__ = ['SPLITS', 'Scenes', 'find_photos', 'load_photo', 'random_crop', 'write_data_set']
