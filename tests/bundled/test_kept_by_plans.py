"""The plans that come with the bundled model: half of the work, and the same clip to the eye."""

from dataclasses import replace

from latte_core import Engine
from latte_core.benchmark.fidelity import nearness
from latte_core.calibration.samples import draw_samples
from latte_core.engine.plan_book import SHIPPED

SEED = 4711  # neither the seed of calibration nor that of the published table


def test_half_of_the_work_keeps_the_clip_and_half_of_the_steps_does_not():
    with Engine.load(SHIPPED.parent / "latte-world", device="cpu") as engine:
        info = engine.describe()
        assert info.plan_shares()["budget-50"] <= 0.5
        (sample,) = draw_samples(info, 1, SEED, {})
        exact = replace(sample.request, plan="full")
        whole = engine.generate(exact).frames
        planned = engine.generate(replace(sample.request, plan="budget-50")).frames
        fewer = engine.generate(replace(exact, num_inference_steps=10)).frames
    kept = nearness(planned, whole).psnr
    assert 28 <= kept < 100
    assert kept > nearness(fewer, whole).psnr + 3
