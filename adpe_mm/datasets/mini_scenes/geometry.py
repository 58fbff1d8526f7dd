"""What is where: objects made of parts, put into an image so that all can be recognised."""

import functools
import math
from typing import NamedTuple

import numpy as np

PARTS = ('ball', 'ball', 'block', 'block', 'ring')
# Where the parts sit. No two are alike when turned or mirrored: eleven of the twelve pentominoes
# (the straight one would not fit beside the others at one scale), and a wreath.
ARRANGEMENTS = {
    'cross': (' # ', '###', ' # '),
    'cup': ('# #', '###'),
    'tee': ('###', ' # ', ' # '),
    'stairs': ('#  ', '## ', ' ##'),
    'corner': ('#  ', '#  ', '###'),
    'snake': ('## ', ' # ', ' ##'),
    'flag': ('##', '##', '# '),
    'wreath': None,
    'hook': ('#   ', '####'),
    'branch': (' #  ', '####'),
    'step': ('##  ', ' ###'),
    'fork': (' ##', '## ', ' # '),
}
MOST_CLASSES = len(ARRANGEMENTS)
TILT = math.radians(25)  # an object is turned by up to this


def class_names(count: int) -> list[str]:
    """Names of the classes, sorted: label i is then the same in folders, ADE (i + 1) and COCO."""
    return sorted(list(ARRANGEMENTS)[:count])


@functools.cache
def sites(name: str) -> np.ndarray:
    """Centres (5, 2) of an arrangement's parts as x, y about their mean; neighbours are 1 apart."""
    pattern = ARRANGEMENTS[name]
    if pattern is None:
        angle = 2 * np.pi * np.arange(5) / 5
        return np.stack([np.sin(angle), -np.cos(angle)], 1) / (2 * math.sin(math.pi / 5))
    points = [(x, y) for y, row in enumerate(pattern) for x, mark in enumerate(row) if mark == '#']
    return np.array(points) - np.mean(points, 0)


class Drawn(NamedTuple):
    """An object's geometry in the window of the image that holds it, h x w pixels."""

    label: int
    window: tuple[slice, slice]
    distance: np.ndarray  # (h, w) to the outline in pixels, negative inside
    normal: np.ndarray  # (3, h, w) unit vectors: right, down, to the viewer
    part: np.ndarray  # (h, w) index of the nearest part
    areas: np.ndarray  # (5,) pixels of each part, before anything hides it
    spacing: float  # of the parts, in pixels

    @property
    def mask(self) -> np.ndarray:
        return self.distance < 0


def part_profile(
    kind: str, x: np.ndarray, y: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Outline of one part.

    Args:
        kind: 'ball', 'block' or 'ring'.
        x: Coordinates to the right of the part's centre, in pixels.
        y: Coordinates below the part's centre.
        radius: Of the part, in pixels.

    Returns:
        Signed distance to the outline (negative inside), its gradient as x and y, and the width
        of the round edge, in pixels.
    """
    if kind == 'block':
        corner = 0.25 * radius
        qx, qy = abs(x) - (0.88 * radius - corner), abs(y) - (0.88 * radius - corner)
        outer_x, outer_y = np.maximum(qx, 0), np.maximum(qy, 0)
        outer = np.hypot(outer_x, outer_y)
        distance = outer + np.minimum(np.maximum(qx, qy), 0) - corner
        beyond = outer > 0  # where a side or a corner is nearest; else the nearer side
        safe = np.where(beyond, outer, 1)
        gx = np.where(beyond, outer_x / safe, qx >= qy) * np.sign(x)
        gy = np.where(beyond, outer_y / safe, qx < qy) * np.sign(y)
        return distance, gx, gy, 0.5 * radius
    r = np.hypot(x, y)
    safe = np.maximum(r, 1e-6)
    if kind == 'ball':
        return r - radius, x / safe, y / safe, radius
    side = np.sign(r - 0.68 * radius)
    distance = abs(r - 0.68 * radius) - 0.32 * radius
    return distance, side * x / safe, side * y / safe, 0.32 * radius


def place(
    rng: np.random.Generator,
    label: int,
    name: str,
    spacing: float,
    shape: tuple[int, int],
    variation: float = 1.0,
) -> Drawn:
    """Put an object of a class into an image, in a random pose.

    Args:
        rng: Source of randomness.
        label: Index of its class.
        name: Name of its class.
        spacing: Of its parts, in pixels.
        shape: (height, width) of the image.
        variation: Of the pose and the place: 1 as objects are meant to be, 0 none, in the middle.
    """
    size = np.array(shape[::-1])
    tilt = variation * rng.uniform(-TILT, TILT)
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    mirror = rng.choice([-1, 1])
    stretch = math.exp(variation * rng.uniform(-0.08, 0.08))
    points = sites(name) + variation * rng.uniform(-0.06, 0.06, (5, 2))
    points = spacing * (points * (mirror * stretch, 1 / stretch)) @ turn.T
    margin = np.minimum(abs(points).max(0) + 0.4 * spacing, size / 2)
    points = points + variation * rng.uniform(margin, size - margin) + (1 - variation) * size / 2

    kinds = rng.permutation(PARTS)
    radii = 0.54 * spacing * np.exp(variation * rng.uniform(-0.08, 0.08, 5))
    angles = tilt + variation * rng.uniform(-0.2, 0.2, 5)

    # In (x, y); the window may reach beyond the image, and is cut to it at the end.
    low = np.floor(points.min(0) - 0.8 * spacing).astype(int)
    high = np.ceil(points.max(0) + 0.8 * spacing).astype(int)
    xs, ys = (np.arange(a, b, dtype=np.float32) + 0.5 for a, b in zip(low, high, strict=True))
    profiles = []
    for kind, (px, py), radius, angle in zip(kinds, points, radii, angles, strict=True):
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        dx, dy = xs[None] - np.float32(px), ys[:, None] - np.float32(py)
        radius = np.float32(radius)
        distance, gx, gy, edge = part_profile(kind, c * dx + s * dy, c * dy - s * dx, radius)
        slope = 1 - np.clip(-distance / edge, 0, 1)  # of a round edge: 1 at the outline
        profiles.append((distance, (c * gx - s * gy) * slope, (s * gx + c * gy) * slope))
    distance, nx, ny = np.stack(profiles, 1)
    part = distance.argmin(0)
    distance, nx, ny = (np.take_along_axis(a, part[None], 0)[0] for a in (distance, nx, ny))
    normal = np.stack([nx, ny, np.sqrt(np.maximum(1 - nx**2 - ny**2, 0))])
    areas = np.bincount(part[distance < 0], minlength=5)

    rows, cols = (
        slice(max(a, 0), min(b, n)) for a, b, n in zip(low[::-1], high[::-1], shape, strict=True)
    )
    inner = np.s_[
        ..., rows.start - low[1] : rows.stop - low[1], cols.start - low[0] : cols.stop - low[0]
    ]
    distance, normal, part = distance[inner], normal[inner], part[inner]
    return Drawn(label, (rows, cols), distance, normal, part, areas, spacing)


def stack(objects: list[Drawn], shape: tuple[int, int]) -> np.ndarray:
    """Which object is seen where: uint8 of `shape`, 0 for none, i + 1 for ``objects[i]``."""
    seen = np.zeros(shape, np.uint8)
    for number, item in enumerate(objects, 1):
        seen[item.window][item.mask] = number
    return seen


def recognisable(objects: list[Drawn], main: Drawn, shape: tuple[int, int]) -> bool:
    """Whether 40 % of every part is seen, and clearly more of the main object than of others."""
    seen = stack(objects, shape)
    areas = []
    for number, item in enumerate(objects, 1):
        visible = np.bincount(item.part[seen[item.window] == number], minlength=len(PARTS))
        if (visible < 0.4 * item.areas).any():
            return False
        areas.append(visible.sum() * (1 if item is main else 1.5))
    return np.argmax(areas) == next(i for i, item in enumerate(objects) if item is main)


def compose(
    rng: np.random.Generator,
    label: int,
    names: list[str],
    shape: tuple[int, int],
    others: int = 3,
    variation: float = 1.0,
) -> list[Drawn]:
    """Draw what is where.

    Args:
        rng: Source of randomness.
        label: Class of the main object.
        names: Of all classes.
        shape: (height, width) of the image.
        others: Smaller objects, at the most.
        variation: Of the main object's pose, place and size, 0 to 1.

    Returns:
        The objects from back to front.
    """
    reach = max(np.ptp(sites(name), 0).max() for name in names) + 1  # of the longest class
    size = variation * rng.uniform(0.6, 0.8) + (1 - variation) * 0.8
    spacing = min(shape) / reach * size
    while True:  # keeping the spacing, so that no class tends to smaller parts
        main = place(rng, label, names[label], spacing, shape, variation)
        if recognisable([main], main, shape):
            break
    objects = [main]
    for _ in range(rng.integers(1, others + 1) if others else 0):
        other = int(rng.integers(len(names)))
        small = spacing * rng.uniform(0.4, 0.7)
        for _ in range(10):
            item = place(rng, other, names[other], small, shape)
            above = rng.integers(len(objects) + 1)
            trial = [*objects[:above], item, *objects[above:]]
            if recognisable(trial, main, shape):
                objects = trial
                break
    return objects
