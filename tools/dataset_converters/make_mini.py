#!/usr/bin/env python
"""Draw mini scenes: small pictures of lit, textured, occluding objects, labelled for three tasks.

    python tools/dataset_converters/make_mini.py data/mini
    python tools/dataset_converters/make_mini.py data/mini --train 400 --unlabelled 20000

Every object is built from the same five parts (two balls, two blocks, a ring) in one material.
Which part sits where is shuffled, and materials, sizes and poses are drawn alike for all classes:
only the arrangement of the parts tells what an object is. Classes keep their identity when
mirrored, as augmentation does that. A picture shows one main object and one to three smaller ones
(--others).

    OUT/imagenet/{train,val}/CLASS/*.jpg     by the main object's class
    OUT/ade/images/{training,validation}/*.jpg
    OUT/ade/annotations/{training,validation}/*.png
                                             1..K classes, K + 1 background (0, unlabelled, unused)
    OUT/coco/{train2017,val2017}/*.jpg
    OUT/coco/annotations/instances_{train,val}2017.json
                                             visible pixels as uncompressed RLE: exact, with holes
    OUT/unlabelled/*.jpg                     more pictures, with --unlabelled
    OUT/meta.json                            classes, palette, options, counts

The background is a class of its own so that mIoU also counts objects seen where there is none:
with mmseg's `reduce_zero_label` 0 is ignored. The pictures of a split are hard links to one file
(copies where the file system has no links). Classes take turns as the main object: the first n
pictures of a split are balanced for any n.

The same options give the same bytes, with any number of processes.
"""

import argparse
import colorsys
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

VERSION = 1  # of the drawing: raise it when the same options no longer give the same pictures

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
TILT = math.radians(25)  # an object is turned by up to this
SPLITS = ('train', 'val', 'unlabelled')
PHOTO_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides about the pictures.

    Attributes:
        train: Number of labelled pictures to train on.
        val: Number of labelled pictures to test on.
        unlabelled: Number of further pictures without labels.
        size: Longer side, in pixels; the other is 3/4 of it or the same.
        classes: Number of classes, K.
        others: Smaller objects beside the main one, at the most; at least one, unless it is 0.
        variation: How much the pose, place and size of main objects vary, in percent: at 0 only
            what they are made of, what their parts are, and which way they face.
        seed: Seed of everything.
        quality: JPEG quality.
        photos: Folder with photographs, from which every second background is cut.
    """

    train: int = 2000
    val: int = 400
    unlabelled: int = 0
    size: int = 160
    classes: int = 8
    others: int = 3
    variation: int = 100
    seed: int = 0
    quality: int = 92
    photos: str | None = None

    def __post_init__(self):
        if not 8 <= self.classes <= len(ARRANGEMENTS):
            raise ValueError(f'--classes must lie in 8..{len(ARRANGEMENTS)}, got {self.classes}')
        for name in ('train', 'val'):
            if getattr(self, name) < self.classes:
                raise ValueError(
                    f'--{name} must be at least the number of classes, {self.classes}, for one '
                    f'picture of each, got {getattr(self, name)}'
                )
        if self.unlabelled < 0:
            raise ValueError(f'--unlabelled must not be negative, got {self.unlabelled}')
        if self.others < 0:
            raise ValueError(f'--others must not be negative, got {self.others}')
        if not 0 <= self.variation <= 100:
            raise ValueError(f'--variation must lie in 0..100 (percent), got {self.variation}')
        if self.size < 64:
            raise ValueError(f'--size must be at least 64 (pixels), got {self.size}')
        if self.seed < 0:
            raise ValueError(f'--seed must not be negative, got {self.seed}')
        if not 1 <= self.quality <= 100:
            raise ValueError(f'--quality must lie in 1..100, got {self.quality}')


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


# ---------------------------------------------------------------- geometry


class Drawn(NamedTuple):
    """An object's geometry in the window of the picture that holds it, h x w pixels."""

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
    """Put an object of a class into a picture, in a random pose.

    Args:
        rng: Source of randomness.
        label: Index of its class.
        name: Name of its class.
        spacing: Of its parts, in pixels.
        shape: (height, width) of the picture.
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

    # In (x, y); the window may reach beyond the picture, and is cut to it at the end.
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
        shape: (height, width) of the picture.
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


# ---------------------------------------------------------------- appearance


class Light(NamedTuple):
    """A far lamp and the sky."""

    direction: np.ndarray  # (3,) unit vector to the lamp: right, down, to the viewer
    colour: np.ndarray  # (3,) RGB
    ambient: float


class Surface(NamedTuple):
    """What an object, or the ground, is made of, in a window of h x w pixels."""

    albedo: np.ndarray  # (h, w, 3) RGB in [0, 1]
    slope: np.ndarray  # (2, h, w) of the relief, to the right and down
    gloss: float


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise of `shape` in [0, 1], with features of `cell` pixels."""
    rows, cols = (math.ceil(n / cell) + 3 for n in shape)
    grid = rng.random((rows, cols), dtype=np.float32)
    grown = cv2.resize(
        grid, (round(cols * cell), round(rows * cell)), interpolation=cv2.INTER_CUBIC
    )
    return grown[: shape[0], : shape[1]].clip(0, 1)


def texture(rng: np.random.Generator, shape: tuple[int, int], unit: float) -> np.ndarray:
    """A random pattern.

    Args:
        rng: Source of randomness.
        shape: (height, width), in pixels.
        unit: Size of the largest features, in pixels.

    Returns:
        float32 of `shape` in [0, 1].
    """
    kind = rng.choice(['stone', 'wood', 'stripes', 'checks', 'weave', 'spots', 'pebbles'])
    cells = [max(unit / 2**octave, 1.5) for octave in range(4)]
    cloud = sum(noise(rng, shape, cell) / 2**i for i, cell in enumerate(cells)) / 1.875
    if kind == 'stone':
        return ((cloud - 0.5) * 1.8 + 0.5).clip(0, 1)
    if kind == 'spots':
        edge = rng.uniform(0.45, 0.6)
        return ((noise(rng, shape, max(unit / 3, 2)) - edge) * 5 + 0.5).clip(0, 1)
    if kind == 'pebbles':
        points = np.full(shape, 255, np.uint8)
        count = max(int(points.size / (unit / 2.5) ** 2), 1)
        points.ravel()[rng.integers(points.size, size=count)] = 0
        distance = cv2.distanceTransform(points, cv2.DIST_L2, 5)
        return 1 - (distance / (unit / 3)).clip(0, 1) ** 1.5
    angle, period = rng.uniform(0, math.pi), unit * rng.uniform(0.3, 0.6)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * np.float32(2 * math.pi / period)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    if kind == 'wood':
        return 0.5 + 0.5 * np.sin(0.5 * u + 9 * cloud)
    if kind == 'stripes':
        return 0.5 + 0.5 * np.tanh(3 * np.sin(u + 1.5 * cloud))
    if kind == 'checks':
        return 0.5 + 0.5 * np.tanh(5 * np.sin(0.6 * u) * np.sin(0.6 * v))
    return abs(np.where(np.sin(u) * np.sin(v) > 0, np.sin(u), np.sin(v)))  # weave


def colours(rng: np.random.Generator, taken: list[np.ndarray]) -> np.ndarray:
    """Two RGB colours (2, 3) whose mean is not too near to those `taken`, which it joins."""
    for _ in range(20):
        hue, shift = rng.random(), rng.normal(0, 0.08)
        saturation, values = rng.uniform(0.05, 0.7, 2), rng.permutation([0.35, 0.75])
        values = values + rng.uniform(-0.15, 0.2, 2)
        pair = np.array(
            [
                colorsys.hsv_to_rgb((hue + i * shift) % 1, saturation[i], values[i])
                for i in range(2)
            ],
            np.float32,
        )
        if all(np.linalg.norm(pair.mean(0) - other) > 0.3 for other in taken):
            break
    taken.append(pair.mean(0))
    return pair


def material(
    rng: np.random.Generator, shape: tuple[int, int], unit: float, taken: list[np.ndarray]
) -> Surface:
    """A random material for a window of `shape`, with features of `unit` pixels."""
    pattern = texture(rng, shape, unit)
    first, second = colours(rng, taken)
    albedo = first + pattern[..., None] * (second - first)
    albedo = albedo * (0.9 + 0.2 * noise(rng, shape, 1.5))[..., None]
    height = pattern * rng.uniform(-0.08, 0.08) * unit  # of the relief, in pixels
    slope = [cv2.Sobel(height, -1, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    return Surface(albedo, np.stack(slope), rng.uniform(0, 0.6))


def shade(surface: Surface, normal: np.ndarray, light: Light) -> np.ndarray:
    """Blinn and Phong's model: diffuse, ambient and specular light.

    Args:
        surface: What is lit.
        normal: (3, h, w) unit vectors.
        light: What lights it.

    Returns:
        RGB (h, w, 3), not clipped.
    """
    bumped = normal.copy()
    bumped[:2] -= surface.slope
    bumped /= np.sqrt((bumped**2).sum(0))
    halfway = light.direction + (0, 0, 1)
    halfway = (halfway / np.linalg.norm(halfway)).astype(np.float32)
    diffuse = np.einsum('c,chw->hw', light.direction, bumped).clip(0)[..., None]
    specular = np.einsum('c,chw->hw', halfway, bumped).clip(0)[..., None] ** 24
    lit = light.ambient * (0.4 + 0.6 * normal[2])[..., None] + diffuse * light.colour
    return surface.albedo * lit + surface.gloss * specular * light.colour


@functools.lru_cache(maxsize=64)
def load_photo(path: str) -> np.ndarray:
    """A photograph as uint8 RGB, shrunk to at most 1024 px.

    Raises:
        ValueError: If it is broken.
    """
    try:
        with Image.open(path) as image:
            image = image.convert('RGB')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"remove the broken photograph '{path}': {error}") from error
    image.thumbnail((1024, 1024))
    return np.asarray(image)


def photo_ground(
    rng: np.random.Generator, path: str, shape: tuple[int, int], taken: list[np.ndarray]
) -> Surface:
    """A random crop of a photograph as the ground."""
    photo = load_photo(path)
    scale = rng.uniform(0.4, 1) * min(photo.shape[0] / shape[0], photo.shape[1] / shape[1])
    height, width = (max(int(scale * n), 1) for n in shape)
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    crop = photo[top : top + height, left : left + width]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    albedo = cv2.resize(crop, shape[::-1], interpolation=method).astype(np.float32) / 255
    taken.append(albedo.mean((0, 1)))
    return Surface(albedo, np.zeros((2, *shape), np.float32), 0.0)


def paint(
    rng: np.random.Generator, objects: list[Drawn], shape: tuple[int, int], photos: list[str]
) -> np.ndarray:
    """Paint a scene.

    Args:
        rng: Source of randomness.
        objects: From back to front.
        shape: (height, width) of the picture.
        photos: Paths of photographs; if any, every second background is cut from one.

    Returns:
        uint8 RGB (height, width, 3).
    """
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(35, 65))
    direction = np.array(
        [
            math.cos(azimuth) * math.cos(elevation),
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
        ],
        np.float32,
    )
    warmth = rng.uniform(-0.08, 0.08)
    colour = np.array([1 + warmth, 1, 1 - warmth], np.float32) * rng.uniform(0.75, 1.0)
    light = Light(direction, colour, rng.uniform(0.25, 0.45))

    taken: list[np.ndarray] = []
    if photos and rng.random() < 0.5:
        ground = photo_ground(rng, photos[rng.integers(len(photos))], shape, taken)
    else:
        ground = material(rng, shape, min(shape) * rng.uniform(0.1, 0.35), taken)
    flat = np.zeros((3, *shape), np.float32)
    flat[2] = 1
    picture = shade(ground, flat, light)

    for item in objects:
        cover = np.zeros(shape, np.float32)
        cover[item.window] = (0.5 - item.distance).clip(0, 1)  # of a pixel: smooths outlines
        throw = -0.45 * item.spacing * direction[:2] / direction[2]
        moved = cv2.warpAffine(cover, np.float32([[1, 0, throw[0]], [0, 1, throw[1]]]), shape[::-1])
        cast = cv2.GaussianBlur(moved, (0, 0), max(0.12 * item.spacing, 0.5))
        contact = cv2.GaussianBlur(cover, (0, 0), max(0.25 * item.spacing, 0.5))
        picture *= ((1 - 0.55 * cast) * (1 - 0.3 * contact))[..., None]
        made_of = material(rng, item.distance.shape, item.spacing * rng.uniform(0.5, 1.5), taken)
        opacity = cover[item.window][..., None]
        patch = picture[item.window]
        patch += opacity * (shade(made_of, item.normal, light) - patch)

    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    falloff = 1 + rng.uniform(0, 0.25) * (x * direction[0] + y * direction[1])
    picture *= falloff[..., None]
    picture += rng.normal(0, rng.uniform(0.004, 0.015), picture.shape)
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def draw(
    options: Options, split: str, index: int, photos: list[str]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw one picture.

    Args:
        options: Of the data set.
        split: 'train', 'val' or 'unlabelled'.
        index: Of the picture in the split.
        photos: Paths of photographs for backgrounds, or none.

    Returns:
        The picture, uint8 RGB (height, width, 3); which object is seen where, uint8
        (height, width), 0 for the background and i + 1 for object i; and the objects' classes,
        the main one's being ``index % options.classes``.
    """
    rng = np.random.default_rng([options.seed, SPLITS.index(split), index])
    short = round(options.size * rng.choice([0.75, 1]))
    shape = (short, options.size) if rng.random() < 0.5 else (options.size, short)
    names = class_names(options.classes)
    variation = options.variation / 100
    objects = compose(rng, index % options.classes, names, shape, options.others, variation)
    return paint(rng, objects, shape, photos), stack(objects, shape), [o.label for o in objects]


# ---------------------------------------------------------------- labels and files


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed RLE of a mask (h, w): runs down the columns, of 0 and 1 in turn."""
    flat = mask.ravel(order='F').astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(changes, prepend=0, append=flat.size)
    return dict(size=list(mask.shape), counts=counts.tolist())


def annotation(mask: np.ndarray, label: int) -> dict:
    """COCO's entry for one object, without ids: its visible pixels (h, w), area and box."""
    ys, xs = np.nonzero(mask)
    left, top = int(xs.min()), int(ys.min())
    return dict(
        category_id=label + 1,
        segmentation=run_lengths(mask),
        area=len(xs),
        bbox=[left, top, int(xs.max()) - left + 1, int(ys.max()) - top + 1],
        iscrowd=0,
    )


def palette(count: int) -> list[list[int]]:
    """RGB colours of the classes, bright and evenly spread in hue, and dark grey (background)."""
    bright = [colorsys.hsv_to_rgb(i / count, 0.75, 1 - 0.3 * (i % 2)) for i in range(count)]
    return [[round(255 * value) for value in colour] for colour in bright] + [[60, 60, 60]]


def link(source: Path, target: Path) -> None:
    """Hard link, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_scene(
    index: int, split: str, options: Options, root: Path, photos: list[str]
) -> tuple[dict, list[dict]]:
    """Draw a picture and write it in every layout.

    Returns:
        COCO's entry for the picture, and those for its objects without ids.
    """
    picture, seen, labels = draw(options, split, index, photos)
    name = f'{split}_{index + 1:06d}'
    if split == 'unlabelled':
        Image.fromarray(picture).save(root / split / f'{name}.jpg', quality=options.quality)
        return {}, []
    names = class_names(options.classes)
    file = root / 'imagenet' / split / names[index % options.classes] / f'{name}.jpg'
    Image.fromarray(picture).save(file, quality=options.quality)
    link(file, root / 'coco' / f'{split}2017' / file.name)
    ade = dict(train='training', val='validation')[split]
    link(file, root / 'ade' / 'images' / ade / file.name)
    values = np.array([options.classes + 1, *(label + 1 for label in labels)], np.uint8)
    Image.fromarray(values[seen]).save(root / 'ade' / 'annotations' / ade / f'{name}.png')
    entry = dict(id=index + 1, file_name=file.name, height=picture.shape[0], width=picture.shape[1])
    return entry, [annotation(seen == i, label) for i, label in enumerate(labels, 1)]


def start_worker() -> None:
    """Keep to one core, as there is a process for each, and leave Ctrl-C to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def find_photos(folder: str) -> list[str]:
    """Paths of the photographs below a folder, sorted; what is no picture is named and left out.

    Raises:
        FileNotFoundError: If there is none.
    """
    photos = []
    for path in sorted(Path(folder).rglob('*')):
        if path.suffix.lower() not in PHOTO_SUFFIXES:
            continue
        try:
            with Image.open(path):
                photos.append(str(path))
        except (OSError, Image.DecompressionBombError) as error:
            print(f'left out: {error}')
    if not photos:
        raise FileNotFoundError(
            f"there is no photograph ({', '.join(PHOTO_SUFFIXES)}) in '{folder}': set --photos to "
            'a folder with some, or leave it out'
        )
    return photos


def fingerprint(options: Options, photos: list[str]) -> dict:
    """What decides about the bytes: the options, with the photographs for the path to them."""
    facts = dataclasses.asdict(options)
    if photos:
        listing = [f'{os.path.relpath(p, options.photos)} {os.path.getsize(p)}' for p in photos]
        facts['photos'] = hashlib.sha256('\n'.join(listing).encode()).hexdigest()
    return dict(generator=f'make_mini {VERSION}', **facts)


def write_split(
    scenes: Iterator[tuple[dict, list[dict]]], split: str, names: list[str], root: Path
) -> int:
    """Write the scenes of a split and its COCO annotations. Returns the number of objects."""
    images, annotations = [], []
    for entry, objects in scenes:
        images.append(entry)
        for item in objects:
            annotations.append(dict(id=len(annotations) + 1, image_id=entry['id'], **item))
    if split == 'unlabelled':
        return 0
    coco = dict(
        info=dict(description='mini scenes', version=str(VERSION)),
        licenses=[],
        categories=[dict(id=i, name=n, supercategory='object') for i, n in enumerate(names, 1)],
        images=images,
        annotations=annotations,
    )
    path = root / 'coco' / 'annotations' / f'instances_{split}2017.json'
    path.write_text(json.dumps(coco))
    return len(annotations)


def write_all(root: Path, options: Options, photos: list[str], workers: int) -> dict:
    """Draw all splits into an empty folder. Returns what is in meta.json."""
    names = class_names(options.classes)
    counts = {}
    folders = [
        'ade/images/training',
        'ade/images/validation',
        'ade/annotations/training',
        'ade/annotations/validation',
        'coco/train2017',
        'coco/val2017',
        'coco/annotations',
        *(f'imagenet/{split}/{name}' for split in ('train', 'val') for name in names),
        *(['unlabelled'] if options.unlabelled else []),
    ]
    for folder in folders:
        (root / folder).mkdir(parents=True)
    # Forking a process that has threads may hang, and an importer may have some.
    with multiprocessing.get_context('spawn').Pool(workers, start_worker) as pool:
        for split in SPLITS:
            count = getattr(options, split)
            job = functools.partial(
                write_scene, split=split, options=options, root=root, photos=photos
            )
            scenes = pool.imap(job, range(count), chunksize=16)
            counts[split] = dict(pictures=count, objects=write_split(scenes, split, names, root))
    meta = dict(
        classes=names,
        seg_classes=[*names, 'background'],  # value i + 1 in ADE's annotations
        palette=palette(len(names)),
        counts=counts,
        options=fingerprint(options, photos),
    )
    (root / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
    return meta


def read_meta(out: Path) -> dict | None:
    """The meta.json of mini scenes, or None if `out` holds something else."""
    try:
        meta = json.loads((out / 'meta.json').read_text())
        return meta if meta['options']['generator'].startswith('make_mini') else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_mini(
    out: str | Path, options: Options, workers: int | None = None, overwrite: bool = False
) -> dict:
    """Draw a data set, unless it is there already.

    It is drawn into a temporary folder beside `out`, which is renamed when complete: what is
    called `out` is never half made.

    Args:
        out: Folder to make.
        options: What to draw.
        workers: Number of processes; None is one a core. No matter for the result.
        overwrite: Replace mini scenes drawn with other options.

    Returns:
        The content of meta.json.

    Raises:
        FileExistsError: If `out` holds something else, or was drawn with other options and
            `overwrite` is not set.
        FileNotFoundError: If the folder of photographs has none.
        ValueError: If `workers` is below 1, or a photograph is broken.
    """
    if workers is not None and workers < 1:
        raise ValueError(f'--workers must be at least 1, got {workers}')
    out = Path(out).resolve()
    photos = find_photos(options.photos) if options.photos else []
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied:
        meta = read_meta(out)
        if meta is None:
            raise FileExistsError(
                f"'{out}' exists and holds no mini scenes: name another folder, or remove it"
            )
        wanted, found = fingerprint(options, photos), meta['options']
        if found == wanted:
            print(f'{out} is there already, drawn with these options')
            return meta
        if not overwrite:
            differing = [
                f'{key} {found.get(key)}, not {value}'
                for key, value in wanted.items()
                if found.get(key) != value
            ]
            raise FileExistsError(
                f"'{out}' was drawn with {'; '.join(differing)}: name another folder, or replace "
                'it with --overwrite'
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as scratch:
        new, old = Path(scratch, 'new'), Path(scratch, 'old')
        new.mkdir()
        workers = workers or len(os.sched_getaffinity(0))
        meta = write_all(new, options, photos, workers)
        if occupied:
            out.rename(old)
        new.rename(out)
    seconds = time.perf_counter() - start
    pictures = sum(count['pictures'] for count in meta['counts'].values())
    for split, count in meta['counts'].items():
        print(f'{split}: {count["pictures"]} pictures, {count["objects"]} labelled objects')
    print(
        f'drew {pictures} pictures of {len(meta["classes"])} classes into {out} in {seconds:.0f} s '
        f'({pictures / seconds:.0f}/s, {workers} processes)'
    )
    return meta


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='folder to make')
    texts = dict(
        train='labelled pictures to train on',
        val='labelled pictures to test on',
        unlabelled='further pictures without labels',
        size='longer side of a picture, in pixels',
        classes=f'number of classes, 8 to {len(ARRANGEMENTS)}',
        others='smaller objects beside the main one, at the most',
        variation='how much the pose, place and size of main objects vary, in percent',
        seed='seed of everything',
        quality='JPEG quality, 1 to 100',
        photos='folder with photographs, from which every second background is cut',
    )
    for field in dataclasses.fields(Options):
        parser.add_argument(
            f'--{field.name}',
            type=str if field.name == 'photos' else int,
            default=field.default,
            metavar='DIR' if field.name == 'photos' else 'N',
            help=f'{texts[field.name]} (default: {field.default})',
        )
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: one a core)')
    parser.add_argument('--overwrite', action='store_true', help='replace other mini scenes')
    args = vars(parser.parse_args())
    out, workers, overwrite = (args.pop(name) for name in ('out', 'workers', 'overwrite'))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lets the scratch folder go
    make_mini(out, Options(**args), workers, overwrite)


if __name__ == '__main__':
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f'make_mini: {error}')
    except KeyboardInterrupt:
        sys.exit('make_mini: interrupted; nothing was written')
