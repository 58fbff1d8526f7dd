"""What it looks like: light, materials, shadows, backgrounds."""

import colorsys
import math
from typing import NamedTuple

import cv2
import numpy as np

from ..three_tasks import random_crop
from .geometry import Drawn


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


def photo_ground(
    rng: np.random.Generator, path: str, shape: tuple[int, int], taken: list[np.ndarray]
) -> Surface:
    """A random crop of a photograph as the ground."""
    albedo = random_crop(rng, path, shape).astype(np.float32) / 255
    taken.append(albedo.mean((0, 1)))
    return Surface(albedo, np.zeros((2, *shape), np.float32), 0.0)


def paint(
    rng: np.random.Generator, objects: list[Drawn], shape: tuple[int, int], photos: list[str]
) -> np.ndarray:
    """Paint a scene.

    Args:
        rng: Source of randomness.
        objects: From back to front.
        shape: (height, width) of the image.
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
    image = shade(ground, flat, light)

    for item in objects:
        cover = np.zeros(shape, np.float32)
        cover[item.window] = (0.5 - item.distance).clip(0, 1)  # of a pixel: smooths outlines
        throw = -0.45 * item.spacing * direction[:2] / direction[2]
        moved = cv2.warpAffine(cover, np.float32([[1, 0, throw[0]], [0, 1, throw[1]]]), shape[::-1])
        cast = cv2.GaussianBlur(moved, (0, 0), max(0.12 * item.spacing, 0.5))
        contact = cv2.GaussianBlur(cover, (0, 0), max(0.25 * item.spacing, 0.5))
        image *= ((1 - 0.55 * cast) * (1 - 0.3 * contact))[..., None]
        made_of = material(rng, item.distance.shape, item.spacing * rng.uniform(0.5, 1.5), taken)
        opacity = cover[item.window][..., None]
        patch = image[item.window]
        patch += opacity * (shade(made_of, item.normal, light) - patch)

    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    falloff = 1 + rng.uniform(0, 0.25) * (x * direction[0] + y * direction[1])
    image *= falloff[..., None]
    image += rng.normal(0, rng.uniform(0.004, 0.015), image.shape)
    return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
