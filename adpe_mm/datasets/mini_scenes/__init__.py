"""Mini scenes: small images of lit, textured, occluding objects, labelled for three tasks.

Every object is built from the same five parts (two balls, two blocks, a ring) in one material.
Which part sits where is shuffled, and materials, sizes and poses are drawn alike for all classes:
only the arrangement of the parts tells what an object is. Classes keep their identity when
mirrored, as augmentation does that. An image shows one main object and one to three smaller ones
(`Options.others`).

The background is a class of its own so that mIoU also counts objects seen where there is none:
with mmseg's `reduce_zero_label` 0 is ignored. The images of a split are hard links to one file
(copies where the file system has no links). Classes take turns as the main object: the first n
images of a split are balanced for any n.

The same options give the same bytes, with any number of processes.
"""

from .geometry import MOST_CLASSES, class_names
from .scenes import Options, draw
from .writing import make_mini

__all__ = ['MOST_CLASSES', 'Options', 'class_names', 'draw', 'make_mini']
