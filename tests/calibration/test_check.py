"""The table of what plans keep: a fake engine whose clips are off by known amounts."""

from types import SimpleNamespace

import numpy as np
import pytest

from latte_core import GenerationRequest
from latte_core.calibration.check import as_json, as_line, check_plans
from latte_core.calibration.samples import Sample
from latte_core.engine.plan_book import PlanBook


class Fake:
    """Gives grey clips; `alternate` is off by 16 levels, half the steps by 32."""

    def describe(self):
        defaults = SimpleNamespace(scheduler="ddim", num_inference_steps=20)
        return SimpleNamespace(defaults=defaults, step_plans=PlanBook(), card={})

    def generate(self, request):
        off = 16 if request.plan == "alternate" else 0
        off += 32 if request.num_inference_steps == 10 else 0
        rng = np.random.default_rng(request.seed)
        frames = rng.integers(60, 180, (2, 16, 16, 3), dtype=np.uint8) + np.uint8(off)
        return SimpleNamespace(frames=frames)


def test_plans_stand_beside_the_full_run_and_half_of_its_steps():
    samples = [Sample(GenerationRequest("a cat", seed=s, num_inference_steps=20)) for s in range(2)]
    lines = []
    rows = check_plans(Fake(), samples, ("full", "alternate"), lines.append)
    assert [row.plan for row in rows] == ["full", "full, half the steps", "alternate"]
    assert [row.rows for row in rows] == [40, 20, 26]
    assert [row.share for row in rows] == [1.0, 0.5, 0.65]
    assert rows[0].psnr_db == float("inf") and rows[0].ssim == pytest.approx(1)
    for row, off in ((rows[1], 32), (rows[2], 16)):
        assert row.psnr_db == pytest.approx(20 * np.log10(255 / off), abs=1e-4)
        assert row.worst_db == pytest.approx(row.psnr_db, abs=1e-4)
    assert lines == [as_line(row) for row in rows]
    assert "exact" in lines[0] and "24.0 dB" in lines[2]
    assert as_json(rows)[0]["psnr_db"] is None and rows[0].following is None
