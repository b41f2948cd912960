"""Distances between clips against torchmetrics, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torchmetrics.functional.image import structural_similarity_index_measure

from latte_core.benchmark.fidelity import gmsd, nearness, psnr, ssim


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(3, 3, 8, 8, generator=draw), size=(40, 48), mode="bilinear"
    )
    return smooth, (smooth + 0.05 * torch.randn(smooth.shape, generator=draw)).clamp(0, 1)


def test_psnr_is_its_closed_form():
    assert psnr(torch.zeros(2, 3), torch.full((2, 3), 0.1)) == pytest.approx(20.0, abs=1e-5)
    assert psnr(torch.ones(4), torch.ones(4)) == math.inf


def test_ssim_equals_torchmetrics(pictures):
    theirs = structural_similarity_index_measure(*pictures, data_range=1.0)
    assert ssim(*pictures) == pytest.approx(float(theirs), abs=2e-4)
    assert 0.1 < float(theirs) < 0.95


def scipy_gmsd(x, y):
    weights = np.array([0.299, 0.587, 0.114])
    kernel = np.array([[1, 0, -1]] * 3) / 3
    values = []
    for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True):
        edges = []
        for picture in (a, b):
            luma = np.tensordot(weights, picture, 1)
            half = luma.reshape(luma.shape[0] // 2, 2, luma.shape[1] // 2, 2).mean((1, 3))
            across, down = (convolve(half, k, mode="constant") for k in (kernel, kernel.T))
            edges.append(np.hypot(across, down))
        p, q = (255 * edge for edge in edges)
        values.append(((2 * p * q + 170) / (p**2 + q**2 + 170)).std())
    return np.mean(values)


def test_gmsd_equals_a_version_made_with_scipy(pictures):
    assert gmsd(*pictures) == pytest.approx(scipy_gmsd(*pictures), rel=1e-3)
    assert gmsd(*pictures) > 0.01


def test_equal_clips_are_as_near_as_can_be_and_noise_is_not(pictures):
    clip = (pictures[0].permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    same = nearness(clip, clip)
    assert (same.psnr, round(same.ssim, 5), same.gmsd) == (math.inf, 1.0, 0.0)
    noise = np.random.default_rng(0).integers(0, 256, clip.shape).astype(np.uint8)
    other = nearness(noise, clip)
    assert other.psnr < 12 and other.ssim < 0.2 and other.gmsd > 0.1
