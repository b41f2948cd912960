"""The linear preview: against a closed form, fast, and fitted by least squares."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from latte_core.components.preview import fit_preview, preview_frames
from latte_core.errors import ShapeError

WEIGHT = ((0.2, 0.0, 0.1), (0.0, 0.2, 0.0), (-0.1, 0.1, 0.2), (0.05, -0.1, 0.0))
MAP = SimpleNamespace(weight=WEIGHT, bias=(0.5, 0.4, 0.3))


def test_preview_is_the_map_clipped_to_bytes():
    latents = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 3
    expected = np.einsum("cfhw,ck->fhwk", latents.numpy(), np.array(WEIGHT)) + np.array(MAP.bias)
    shown = preview_frames(latents, MAP)
    assert shown.shape == (3, 5, 6, 3)
    assert np.abs(shown - np.clip(expected, 0, 1) * 255).max() <= 0.51
    assert (shown == 0).any()
    assert (shown == 255).any()


def test_preview_survives_nan():
    latents = torch.zeros(4, 1, 1, 2)
    latents[0, 0, 0, 0] = float("nan")
    assert preview_frames(latents, MAP)[0, 0].tolist() == [[0, 0, 0], [128, 102, 76]]


def test_preview_of_a_whole_clip_takes_milliseconds():
    latents = torch.randn(4, 16, 64, 64)
    preview_frames(latents, MAP)
    best = min(_timed(latents) for _ in range(5))
    assert best < 0.05  # a few milliseconds on a free core


def _timed(latents):
    began = time.perf_counter()
    preview_frames(latents, MAP)
    return time.perf_counter() - began


def test_fit_finds_the_map_that_made_the_pictures():
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.8
    colours = np.einsum("nchw,ck->nhwk", latents.numpy(), np.array(WEIGHT)) + np.array(MAP.bias)
    inside = np.clip(colours, 0, 1)
    assert (inside == colours).mean() > 0.95
    pixels = (inside * 255).round().astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    fitted = fit_preview(latents, pixels)
    assert np.abs(np.array(fitted.weight) - WEIGHT).max() < 0.02
    assert np.abs(np.array(fitted.bias) - MAP.bias).max() < 0.02


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"\(4, F, h, w\)"):
        preview_frames(torch.zeros(3, 1, 2, 2), MAP)
    with pytest.raises(ShapeError, match="do not fit"):
        fit_preview(torch.zeros(2, 4, 8, 8), np.zeros((2, 20, 20, 3), np.uint8))
