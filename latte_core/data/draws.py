"""Clip number k of seed s: the same whenever it is asked for, in whatever process.

Epoch e visits every clip once, in an order that (s, e) decides; the window of clip number k and
the images beside it come from (s, k). Nothing is remembered between calls, so workers, ranks and
resumed runs need only count.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from latte_core.errors import DataError

ReadingT = TypeVar("ReadingT", covariant=True)
ItemT = TypeVar("ItemT")
TRIES = 8  # damaged files in a row before a draw gives up
_ORDER, _CLIP, _IMAGES = 0, 1, 2  # streams of one seed that must not meet

log = logging.getLogger(__name__)


class Readable(Protocol[ReadingT]):
    """What clips are drawn from: a VideoSet, or a LatentSet of encoded clips."""

    def __len__(self) -> int: ...

    def read_clip(self, index: int, rng: np.random.Generator) -> ReadingT:
        """Read a window of clip `index`."""
        ...

    def read_image(self, index: int, rng: np.random.Generator) -> ReadingT:
        """Read one frame of clip `index`."""
        ...


def clip_index(count: int, seed: int, number: int) -> int:
    """Which of `count` clips comes as number `number`: every epoch is a permutation of all."""
    return int(_order(count, seed, number // count)[number % count])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(count)


def draw_clip(videos: Readable[ItemT], seed: int, number: int) -> ItemT:
    """Clip number `number` of `seed`.

    If the file turns out to be damaged, this is logged and the next clip of the order is read.
    Raises DataError after TRIES damaged files in a row.
    """
    return _next_readable(videos, seed, number)[1]


def draw_joint(
    videos: Readable[ItemT], seed: int, number: int, num_images: int
) -> tuple[ItemT, list[ItemT]]:
    """Clip number `number` of `seed`, and random frames of random other clips, as the paper trains.

    The images come from different clips as long as there are enough. Raises DataError as
    draw_clip does.
    """
    index, clip = _next_readable(videos, seed, number)
    if not num_images:
        return clip, []
    rng = np.random.default_rng((seed, _IMAGES, number))
    others = np.delete(np.arange(len(videos)), index) if len(videos) > 1 else np.arange(1)
    images: list[ItemT] = []
    for choice in _enough(others, num_images, rng):
        try:
            images.append(videos.read_image(int(choice), rng))
        except DataError as error:
            log.warning("left out of the images: %s", error)
        if len(images) == num_images:
            return clip, images
    raise DataError(f"Only {len(images)} of {num_images} images could be read; see the log.")


def _enough(others: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Permutations of the other clips, one after another, with TRIES to spare."""
    rounds = -(-(count + TRIES) // len(others))
    return np.concatenate([rng.permutation(others) for _ in range(rounds)])[: count + TRIES]


def _next_readable(videos: Readable[ItemT], seed: int, number: int) -> tuple[int, ItemT]:
    for step in range(TRIES):
        index = clip_index(len(videos), seed, number + step)
        try:
            return index, videos.read_clip(index, np.random.default_rng((seed, _CLIP, number)))
        except DataError as error:
            last = error
            log.warning("clip %d of seed %d is passed over: %s", number, seed, error)
    raise DataError(f"{TRIES} clips in a row could not be read, the last one: {last}") from last
