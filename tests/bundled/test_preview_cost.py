"""What the moving preview costs: its time against a step's, and its size, on the bundled model."""

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from demo.stage import make_strip
from latte_core import Engine, GenerationRequest, Step
from latte_core.checkpoints import read_manifest
from latte_core.components.preview import preview_frames

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "latte-world"
SHARE = 0.03  # of a step, at most


def seconds_of(work, times=15):
    """The median of this thread's own time, which other programs do not lengthen."""
    taken = []
    for _ in range(times):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return statistics.median(taken)


def test_preview_of_a_step_costs_little_time_and_few_bytes():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that a step's time is all this machine's work for it
    try:
        with Engine.load(str(FOLDER), device="cpu") as engine:
            request = GenerationRequest(
                "a red rocket flies up", seed=7, num_inference_steps=6, plan="full"
            )
            steps, marks = [], []
            for event in engine.stream(request):
                if isinstance(event, Step):
                    steps.append(event)
                    marks.append(time.process_time())
    finally:
        torch.set_num_threads(threads)
    step_s = (marks[-1] - marks[1]) / (len(steps) - 2)  # this process's own time
    frames, height, width, _ = steps[-1].preview.shape
    preview = read_manifest(FOLDER).preview
    latents = torch.randn(len(preview.weight), frames, height, width)
    # the noise is the hardest to pack, so the first step is the dearest
    cost_s = seconds_of(lambda: preview_frames(latents, preview)) + max(
        seconds_of(lambda one=one: make_strip(one.preview, one.stills)) for one in steps
    )
    said = f"{1000 * cost_s:.2f} ms of {1000 * step_s:.0f} ms: {cost_s / step_s:.2%}"
    assert cost_s < SHARE * step_s, said
    assert all(len(make_strip(one.preview, one.stills).image) < 60_000 for one in steps)


def test_preview_of_a_large_clip_stays_small_as_noise():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    assert len(make_strip(noise, noise[:8]).image) <= 60_000
