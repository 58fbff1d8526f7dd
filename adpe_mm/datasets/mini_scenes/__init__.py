"""Mini scenes: small images of lit, textured, occluding objects, labelled for three tasks.

Every object is built from the same five parts (two balls, two blocks, a ring) in one material.
Which part sits where is shuffled, and materials, sizes and poses are drawn alike for all classes:
only the arrangement of the parts tells what an object is. Classes keep their identity when
mirrored, as augmentation does that. An image shows one main object and one to three smaller ones
(`Options.others`).
"""

from .geometry import MOST_CLASSES, class_names
from .scenes import Options, draw, make_mini

__all__ = ['MOST_CLASSES', 'Options', 'class_names', 'draw', 'make_mini']
