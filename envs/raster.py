"""Antialiased discs and line segments on a pixel grid, for drawing and for environments that are seen as images.

Shapes: N shapes side by side; points are (N, 2) or (2,) in world coordinates (x right, y up); coverages are
(N, H, W) in [0, 1]; pictures are (H, W, 3) in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reps_opt.validation import FloatArray


class Canvas:
    """A square of ``size`` x ``size`` pixels over ``[low, high]`` in both coordinates, first row at the top.

    A pixel's coverage falls linearly from one to zero across one pixel's width around a shape's edge, so images change
    continuously with the shape.

    Examples
    --------
    >>> canvas = Canvas(5, low=-1.0, high=1.0)
    >>> canvas.disc([[0.0, 0.0]], radius=0.32).round(1)[0]
    array([[0. , 0. , 0. , 0. , 0. ],
           [0. , 0. , 0.3, 0. , 0. ],
           [0. , 0.3, 1. , 0.3, 0. ],
           [0. , 0. , 0.3, 0. , 0. ],
           [0. , 0. , 0. , 0. , 0. ]])
    """

    def __init__(self, size: int, low: float, high: float) -> None:
        self.size = size
        self.pixel = (high - low) / size
        centre = low + self.pixel * (np.arange(size) + 0.5)
        self._x, self._y = centre[None, :], centre[::-1, None]

    def disc(self, centres: ArrayLike, radius: float) -> FloatArray:
        """Coverage (N, H, W) of discs."""
        return self.segment(centres, centres, radius)

    def segment(self, starts: ArrayLike, ends: ArrayLike, radius: float) -> FloatArray:
        """Coverage (N, H, W) of line segments with round ends, ``radius`` to either side."""
        a = np.atleast_2d(np.asarray(starts, dtype=np.float64))
        along = np.atleast_2d(np.asarray(ends, dtype=np.float64)) - a
        dx, dy = self._x - a[:, 0, None, None], self._y - a[:, 1, None, None]
        ux, uy = along[:, 0, None, None], along[:, 1, None, None]
        length_squared = np.maximum(ux**2 + uy**2, np.finfo(float).tiny)
        nearest = np.clip((dx * ux + dy * uy) / length_squared, 0.0, 1.0)
        distance = np.sqrt((dx - nearest * ux) ** 2 + (dy - nearest * uy) ** 2)
        return np.clip(0.5 + (radius - distance) / self.pixel, 0.0, 1.0)

    def blank(self) -> FloatArray:
        """A white picture (H, W, 3)."""
        return np.ones((self.size, self.size, 3))


def paint(picture: FloatArray, coverage: FloatArray, colour: ArrayLike) -> FloatArray:
    """Lay a colour over a picture where a shape covers it; several shapes (N, H, W) are laid as one."""
    alpha = np.max(coverage, axis=0)[..., None] if coverage.ndim == 3 else coverage[..., None]
    return (1.0 - alpha) * picture + alpha * np.asarray(colour, dtype=np.float64)


def to_rgb(picture: FloatArray) -> NDArray[np.uint8]:
    """The picture as bytes (H, W, 3)."""
    return np.round(255.0 * np.clip(picture, 0.0, 1.0)).astype(np.uint8)


def blur_matrix(size: int, sigma: float) -> FloatArray:
    """Gaussian blur along one axis as a matrix B (size, size); ``B @ image @ B.T`` blurs an image.

    ``sigma`` is in pixels, 0 for none. What lies outside the image is black, so brightness fades near the edges.
    """
    if sigma == 0.0:
        return np.eye(size)
    reach = np.arange(-4 * size, 4 * size + 1)
    offset = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (offset / sigma) ** 2) / np.exp(-0.5 * (reach / sigma) ** 2).sum()
