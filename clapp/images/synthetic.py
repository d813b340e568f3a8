"""Dead leaves: pictures made of overlapping shapes, with the statistics of natural ones.

Lee, Mumford and Huang, "Occlusion models for natural images" (IJCV 2001): opaque shapes whose
radii follow r^-3, dropped until they cover the plane, share the scale-invariant statistics of
photographs. Colours are led by luminance, as in nature: chroma is small and strongly shared.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from clapp.config.schema import DataConfig
from clapp.images.source import (
    SOURCES,
    Named,
    Picture,
    Skipped,
    check_no_argument,
    check_split,
)

SPLITS = ("train", "validation", "test")
VERSION = 1  # raise it when the pictures change, so that older pools are not used
SIDE = 288
_OVERSAMPLING = 1.25  # painted larger and averaged down, so that edges are smooth
_CANVAS = round(SIDE * _OVERSAMPLING)
_SMALLEST = (1.5, 8.0)  # radii in pixels of the canvas; the smallest differs between pictures,
_LARGEST = 160.0  # as the distance of scenes does
_LEAVES = 800
_CORNERS = 32  # vertices of the polygon drawn for an ellipse
_SHIFT = 4  # fractional bits of a vertex

Field = NDArray[np.float32]


@SOURCES.register("synthetic")
class Synthetic:
    """Endless dead leaves; picture i depends on the seed, the split and i alone."""

    def __init__(self, data: DataConfig, argument: str = "") -> None:
        check_no_argument(data, argument)
        self.split = check_split(data, SPLITS)
        self.seed = data.seed
        self.skipped = Skipped()

    @staticmethod
    def shares(mine: Named, other: Named) -> bool:
        """Two sources share pictures if their seeds and splits are equal."""
        return (
            other.kind == mine.kind
            and mine.data.seed == other.data.seed
            and mine.data.split == other.data.split
        )

    def describe(self) -> str:
        """Name and split."""
        return f"synthetic ({self.split})"

    def fingerprint(self) -> dict[str, Any]:
        """The version of the generator, split and seed."""
        return {"kind": "synthetic", "version": VERSION, "split": self.split, "seed": self.seed}

    def epoch(self, number: int, start: int = 0) -> Iterator[Picture]:
        """Pictures without end."""
        for index in count(start):
            key = [self.seed, SPLITS.index(self.split), number, index]
            yield dead_leaves(np.random.default_rng(key))


def dead_leaves(rng: np.random.Generator) -> Picture:
    """One picture, uint8 (SIDE, SIDE, 3)."""
    labels = _paint(rng)
    luminance, chroma = _leaf_colours(rng)
    light = luminance[labels] * (1 + _texture(rng, labels))  # (C, C)
    colour = light[..., None] * (1 + chroma[labels])  # (C, C, 3)
    picture = cv2.resize(colour, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return _photograph(rng, cast(Field, picture))


def _paint(rng: np.random.Generator) -> NDArray[np.uint16]:
    """The number of the leaf that is visible at each pixel of the canvas; leaf 0 is the ground."""
    low, high = np.exp(rng.uniform(*np.log(_SMALLEST))), _LARGEST
    # The inverse of the distribution function of r^-3 between the two radii.
    radius = (low**-2 - rng.random(_LEAVES) * (low**-2 - high**-2)) ** -0.5
    aspect = np.exp(rng.normal(0, 0.4, _LEAVES))
    angles = _corner_angles(rng)  # (N, K)
    x = radius[:, None] * aspect[:, None] * np.cos(angles)
    y = radius[:, None] / aspect[:, None] * np.sin(angles)
    turn = rng.uniform(0, np.pi, (_LEAVES, 1))
    centre = rng.uniform(0, _CANVAS, (2, _LEAVES, 1))
    corners = np.stack(
        [
            centre[0] + x * np.cos(turn) - y * np.sin(turn),
            centre[1] + x * np.sin(turn) + y * np.cos(turn),
        ],
        axis=2,
    )  # (N, K, 2)
    fixed = np.rint(corners * 2**_SHIFT).astype(np.int32)
    labels = np.zeros((_CANVAS, _CANVAS), np.uint16)
    for leaf, outline in enumerate(fixed, start=1):
        cv2.fillConvexPoly(labels, outline, (leaf,), lineType=cv2.LINE_8, shift=_SHIFT)
    return labels


def _corner_angles(rng: np.random.Generator) -> NDArray[np.float64]:
    """Angles of the vertices on an ellipse: evenly spaced, or 3 to 6 for every third leaf."""
    angles = np.tile(np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False), (_LEAVES, 1))
    few = np.flatnonzero(rng.random(_LEAVES) < 1 / 3)
    steps = rng.uniform(0.5, 1.5, (len(few), 6))
    # The other vertices coincide with these corners.
    steps[np.arange(6) >= rng.integers(3, 7, (len(few), 1))] = 0
    turns = np.cumsum(steps, axis=1) / steps.sum(axis=1, keepdims=True)
    angles[few] = 2 * np.pi * turns[:, np.minimum(np.arange(_CORNERS), 5)]
    return angles


def _leaf_colours(rng: np.random.Generator) -> tuple[Field, Field]:
    """Luminance (N + 1,) in [0, 1] and relative chroma (N + 1, 3) of the ground and each leaf."""
    leaves = _LEAVES + 1
    spread = rng.uniform(0.5, 1.5)  # a picture's contrast
    luminance = 1 / (1 + np.exp(-spread * rng.normal(0, 1, leaves) + rng.normal(0.4, 0.5)))
    # Yellow-blue varies more than red-green (Ruderman, Cronin and Chiao, 1998).
    yellow, red = rng.normal(0, 0.14, leaves), rng.normal(0, 0.06, leaves)
    vivid = np.where(rng.random(leaves) < 0.06, 4.0, 1.0)
    # The colour of the light is the same for all leaves.
    yellow = vivid * yellow + rng.normal(0, 0.05)
    red = vivid * red + rng.normal(0, 0.025)
    chroma = np.stack([yellow / 2 + red, yellow / 2 - red, -yellow], axis=1)
    return luminance.astype(np.float32), np.clip(chroma, -0.9, 3).astype(np.float32)


def _texture(rng: np.random.Generator, labels: NDArray[np.uint16]) -> Field:
    """Relative brightness inside the leaves: 1/f noise and shading for all, stripes for some."""
    leaves = _LEAVES + 1
    grain = np.abs(rng.normal(0, 0.12, leaves)).astype(np.float32)
    texture = cast(Field, grain[labels] * _pink(rng))
    slope = rng.normal(0, 0.2, 2).astype(np.float32)
    across = np.linspace(-1, 1, _CANVAS, dtype=np.float32)
    texture += slope[0] * across + (slope[1] * across)[:, None]
    striped = np.where(rng.random(leaves) < 0.08, rng.uniform(0.1, 0.5, leaves), 0)
    frequency = rng.normal(0, 0.35, (2, leaves))  # radians a pixel
    at = np.flatnonzero(striped.astype(np.float32)[labels])
    leaf = labels.ravel()[at]
    phase = frequency[0, leaf] * (at % _CANVAS) + frequency[1, leaf] * (at // _CANVAS)
    texture.ravel()[at] += (striped[leaf] * np.sin(phase)).astype(np.float32)
    return np.maximum(texture, -0.95)


def _pink(rng: np.random.Generator) -> Field:
    """Noise with a 1/f amplitude spectrum: octaves of equal variance."""
    total = np.zeros((_CANVAS, _CANVAS), np.float32)
    for octave in range(6):
        side = -(-_CANVAS // 2**octave)
        noise = rng.standard_normal((side, side), dtype=np.float32)
        total += cv2.resize(noise, (_CANVAS, _CANVAS), interpolation=cv2.INTER_LINEAR)
    return total


def _photograph(rng: np.random.Generator, picture: Field) -> Picture:
    """Lens blur, sensor noise and eight bits, as a camera would add them."""
    sigma = rng.choice([0.0, 0.5, 0.8, 1.4], p=[0.5, 0.3, 0.15, 0.05])
    if sigma:
        picture = cast(Field, cv2.GaussianBlur(picture, (0, 0), sigma))
    level = max(0.0, rng.normal(1, 1.5))  # grey levels
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(picture * 255 + level * noise, 0, 255).astype(np.uint8)
