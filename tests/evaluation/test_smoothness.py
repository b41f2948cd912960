"""Smoothness against clips whose differences are known."""

import numpy as np
import pytest

from latte_core.evaluation.smoothness import frame_differences, normal_range, seam


def brightening(steps):
    """A clip of grey frames whose brightness rises by these steps."""
    levels = np.cumsum([0, *steps]).astype(np.uint8)
    return np.repeat(levels, 4 * 4 * 3).reshape(-1, 4, 4, 3)


def test_differences_are_the_steps_of_brightness():
    assert frame_differences(brightening([1, 5, 2])).tolist() == [1, 5, 2]


def test_normal_range_is_tukeys_outer_fence():
    differences = np.array([1.0, 2, 3, 4, 5])  # quartiles 2 and 4
    assert normal_range(differences) == 10


@pytest.mark.parametrize("step,seamless", [(4, True), (40, False)])
def test_seam_is_a_difference_beyond_the_normal_range(step, seamless):
    clip = brightening([3, 4, 5, 4, step, 3, 5, 4, 3])
    assert (seam(clip, [5]) <= 1) == seamless


def test_seam_in_a_clip_that_stands_still_otherwise():
    assert seam(brightening([0, 0, 0, 1, 0, 0]), [4]) == np.inf
    assert seam(brightening([0, 0, 0, 0, 0, 0]), [4]) == 0
