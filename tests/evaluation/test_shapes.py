"""What is said about clips of other lengths and sizes, on clips whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec
from latte_core.evaluation.probe import load_probe
from latte_core.evaluation.shapes import ShapeReport, first_change, psnr, seen

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SPEC = ClipSpec("car", "right", "plain", "black", "", 3)  # which the probe reads at half speed too


@pytest.fixture(scope="module")
def probe():
    return load_probe(ASSETS / "world" / "probe.safetensors")


def test_probe_is_shown_what_it_was_trained_on():
    clip = render_clip(SPEC, 16, 64)
    assert np.array_equal(seen(clip), clip)
    long = render_clip(SPEC, 46, 64)
    assert np.array_equal(seen(long), long[::3])
    assert seen(render_clip(SPEC, 16, 96, 64)).shape == (16, 64, 64, 3)


def test_psnr_equals_torchmetrics():
    one, other = render_clip(SPEC, 16, 64)[[0, 9]]
    theirs = peak_signal_noise_ratio(
        torch.from_numpy(one).double(), torch.from_numpy(other).double(), data_range=255.0
    )
    assert psnr(one, other) == pytest.approx(float(theirs), abs=1e-6)
    assert psnr(one, one) == float("inf")


def test_first_change_is_told_in_medians_of_the_others():
    levels = np.array([0, 30, 35, 40, 45, 50], np.uint8)
    clip = np.repeat(levels, 48).reshape(-1, 4, 4, 3)
    assert first_change(clip) == 6


def test_report_tells_whole_clips_from_halves_put_end_to_end(probe):
    whole = render_clip(SPEC, 32, 64)
    halves = np.concatenate([render_clip(SPEC, 16, 64)] * 2)
    lines = ShapeReport((16,), [whole, halves], [whole, whole]).lines(probe, [SPEC, SPEC])
    assert "border: 1 of 2" in lines[1]
    assert "control, two halves end to end: 2 of 2" in lines[1]
    assert lines[2].split(": ")[1] == "100/100, 100/50, 100/100"  # one of them begins again midway
    windows = ShapeReport((16,), [halves], [whole]).lines(probe, [SPEC])[2]
    assert windows.split(": ")[1] == "100/100, 100/0, 100/100"  # across the seam it jumps back


def test_report_compares_the_first_frame_with_its_picture(probe):
    clip = render_clip(SPEC, 16, 64)
    again = clip[0] // 2
    lines = ShapeReport((), [clip], [clip], [(clip[0] // 2 * 2, again)]).lines(probe, [SPEC])
    assert f"{psnr(clip[0], clip[0] // 2 * 2):.1f} dB" in lines[-1]
    assert f"alone {psnr(again, clip[0] // 2 * 2):.1f} dB" in lines[-1]
